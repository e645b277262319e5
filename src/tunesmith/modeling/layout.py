"""Where the tokens of a batch lie, in a pack of them and in rows."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

Pattern = Callable[[int, int, Tensor, Tensor], Tensor]
"""Of a row, a head, positions of queries and of keys: whether a query sees a key. Padding is another matter."""

NUM_PARTS = 2
"""In how many parts attention computes a batch on the CPU: more have less padding, and more calls."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie.

    Attributes:
        mask: Where there is a token and no padding, which is on the right; shape (num_rows, longest).
        multiple: A pack is filled up to a multiple of so many tokens, with copies of the first.
        seen: What `visible` has found, by pattern.
    """

    mask: Tensor
    multiple: int = 1
    seen: dict[Pattern, Tensor] = field(default_factory=dict, compare=False)

    @cached_property
    def places(self) -> Tensor:
        """The place of each token in the flattened batch, shape (num_tokens,)."""
        return self.mask.flatten().nonzero().flatten()

    @property
    def num_tokens(self) -> int:
        """How many tokens there are."""
        return len(self.places)

    @property
    def num_filled(self) -> int:
        """How many places of a pack are filled up."""
        return -self.num_tokens % self.multiple

    @cached_property
    def packed_places(self) -> Tensor:
        """The place in the flattened batch of what is in the pack, shape (num_tokens + num_filled,)."""
        return torch.cat([self.places, self.places[:1].expand(self.num_filled)])

    @cached_property
    def parts(self) -> list[Layout]:
        """Runs of rows, each only as wide as its longest: the more alike their lengths, the less padding there is."""
        if self.mask.device.type != "cpu":
            return [Layout(self.mask)]  # one large computation is faster there than several small ones
        runs = torch.split(self.mask, -(-len(self.mask) // NUM_PARTS))
        return [Layout(run[:, : int(run.sum(dim=1).max())]) for run in runs]

    def pack(self, values: Tensor) -> Tensor:
        """Values of shape (num_rows, longest, ...), without those of the padding: (1, num_tokens + num_filled, ...)."""
        return values.flatten(0, 1).index_select(0, self.packed_places).unsqueeze(0)

    def unpack(self, values: Tensor) -> Tensor:
        """Values of shape (1, num_tokens + num_filled, ...), with zeros for the padding: (num_rows, longest, ...)."""
        padded = values.new_zeros((self.mask.numel(), *values.shape[2:]))
        return padded.index_copy(0, self.places, values[0, : self.num_tokens]).view(*self.mask.shape, *values.shape[2:])

    def first_tokens(self, values: Tensor) -> Tensor:
        """Of values of shape (1, num_tokens + num_filled, ...), those of each row's first token: (1, num_rows, ...)."""
        lengths = self.mask.sum(dim=1)
        return values.index_select(1, lengths.cumsum(0) - lengths)

    def visible(self, pattern: Pattern) -> Tensor:
        """Which keys a query sees, booleans that broadcast to (num_rows, num_heads, longest, longest)."""
        if pattern not in self.seen:
            self.seen[pattern] = self.mask[:, None, None, :] & _span(pattern, self.mask)
        return self.seen[pattern]


current_layout: ContextVar[Layout] = ContextVar("layout")
"""Of the batch that a packed model computes."""


def _span(pattern: Pattern, mask: Tensor) -> Tensor:
    """A pattern over the positions of a row, booleans that broadcast to (longest, longest)."""
    from transformers.masking_utils import bidirectional_mask_function

    if pattern is bidirectional_mask_function:  # type: ignore[comparison-overlap]  # theirs is annotated with ints
        return mask.new_ones(1, 1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    return pattern(0, 0, positions[:, None], positions)
