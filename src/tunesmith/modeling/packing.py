"""Models that compute on tokens alone: the padding of a batch is taken out before the body, and put back behind it.

Linear layers, norms and activations see the tokens of all rows one after another. Attention alone sees rows, because a
token attends to those of its own row; so what stands beside a row in the batch changes nothing about it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.modeling.base import PACK_MULTIPLE, POSITIONS_AFTER_PADDING
from tunesmith.modeling.tokenizer import first_line

Pattern = Callable[[int, int, Tensor, Tensor], Tensor]
"""Of a row, a head, positions of queries and of keys: whether a query sees a key. Padding is another matter."""

WATCHED, PACKED = "tunesmith_watched", "tunesmith_packed"
"""The names under which transformers knows our attention; behind them comes the name of what they are made from."""
NUM_PARTS = 2
"""In how many parts attention computes a batch on the CPU: more have less padding, and more calls."""
TOLERANCE = 1e-4
"""How far the logits of a packed model may be from those of the same model unpacked, in fp32."""


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

    def visible(self, pattern: Pattern) -> Tensor:
        """Which keys a query sees, booleans that broadcast to (num_rows, num_heads, longest, longest)."""
        if pattern not in self.seen:
            self.seen[pattern] = self.mask[:, None, None, :] & _span(pattern, self.mask)
        return self.seen[pattern]


_layout: ContextVar[Layout] = ContextVar("layout")
_patterns: WeakKeyDictionary[nn.Module, Pattern] = WeakKeyDictionary()
"""What each attention of a packed model sees: all of a row, what came before, a window, ..."""


def pack_body(model: Any) -> None:
    """Let a model compute without padding from now on; the shapes of its inputs and outputs stay what they are.

    Args:
        model: A model of transformers, or of peft around one, in fp32.

    Raises:
        ModelError: The model takes no positions, or its attention cannot be packed; found by trying it. The model is
            as it was.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    body, implementation = base.base_model, base.config._attn_implementation
    why_not = _find_obstacle(body, implementation)
    if why_not is None:
        try:
            why_not = _pack(model, base, body)
        except Exception as error:  # whatever it is that this model is not made for
            why_not = f"packed, it fails with {type(error).__name__}: {first_line(error)}"
        if why_not is None:
            return
        body.__dict__.pop("forward", None)
        base.set_attn_implementation(implementation)
    raise ModelError(
        f"train.batching: a {base.config.model_type} model cannot be packed: {why_not}. Set it to grouped, or to auto."
    )


def _find_obstacle(body: Any, implementation: str) -> str | None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if "position_ids" not in inspect.signature(body.forward).parameters:
        return "it does not take the position of each token"
    if implementation not in ALL_ATTENTION_FUNCTIONS:
        return f"its attention ({implementation}) is its own"
    return None


def _pack(model: Any, base: Any, body: Any) -> str | None:
    """Pack a model, and compare it with what it was; gives what is wrong with it then."""
    implementation, probe = base.config._attn_implementation, _make_probe(base.config)
    base.set_attn_implementation(_register_watched(implementation))
    expected = _compute_logits(model, probe)
    base.set_attn_implementation(_register_packed(implementation))
    body.forward = _without_padding(body, base.config)
    logits = _compute_logits(model, probe)
    if logits.shape != expected.shape:
        return f"packed, its logits have the shape {tuple(logits.shape)}, not {tuple(expected.shape)}"
    difference = float((logits - expected).abs().max())
    return None if difference < TOLERANCE else f"packed, its logits differ by {difference:.2g}"


def _without_padding(body: Any, config: Any) -> Callable[..., Any]:
    forward, first = body.forward, 0
    if config.model_type in POSITIONS_AFTER_PADDING:
        first = int(config.pad_token_id) + 1

    def packed(
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: None = None,
        **options: Any,
    ) -> Any:
        layout = Layout(attention_mask.bool(), PACK_MULTIPLE)
        positions = torch.arange(first, first + input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if token_type_ids is not None:
            options["token_type_ids"] = layout.pack(token_type_ids)
        token = _layout.set(layout)
        try:
            output = forward(input_ids=layout.pack(input_ids), position_ids=layout.pack(positions), **options)
        finally:
            _layout.reset(token)
        output.last_hidden_state = layout.unpack(output.last_hidden_state)
        if output.get("pooler_output") is not None:  # of the first token of the pack, and not of each row
            output.pooler_output = _pool(body, output.last_hidden_state)
        return output

    return packed


def _pool(body: Any, last_hidden_state: Tensor) -> Tensor:
    if hasattr(body, "pooler_activation"):  # ALBERT's pooler is a linear layer alone
        return body.pooler_activation(body.pooler(last_hidden_state[:, 0]))  # type: ignore[no-any-return]
    return body.pooler(last_hidden_state)  # type: ignore[no-any-return]


def _register_watched(implementation: str) -> str:
    """Attention that remembers which pattern each module sees; gives its name.

    A probe is shorter than most windows, so that its logits do not tell whether there is one.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend, make_mask = ALL_ATTENTION_FUNCTIONS[implementation], ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    made = list[tuple[Tensor, Pattern]]()

    def make_mask_watched(*sizes: int, mask_function: Pattern, use_vmap: bool = False, **options: Any) -> Tensor:
        options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}  # or there is none
        mask: Tensor = make_mask(*sizes, mask_function=mask_function, use_vmap=use_vmap, **options)
        if not use_vmap:  # otherwise it may depend on more than positions
            made.append((mask, mask_function))
        return mask

    def attend_watched(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        for mask, pattern in made:
            if mask is attention_mask:
                _patterns[module] = pattern
                return attend(module, query, key, value, attention_mask, **options)
        raise ValueError(f"what {type(module).__name__} sees is not a pattern of positions")

    name = f"{WATCHED}_{implementation}"
    AttentionInterface.register(name, attend_watched)
    AttentionMaskInterface.register(name, make_mask_watched)
    return name


def _register_packed(implementation: str) -> str:
    """Attention that sees rows in a pack, as the implementation that it is made from would; gives its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend = ALL_ATTENTION_FUNCTIONS[implementation]

    def attend_packed(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        is_causal: bool | None = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        whole = _layout.get()
        sizes = [*(part.num_tokens for part in whole.parts), whole.num_filled]
        split = zip(*(torch.split(tensor, sizes, dim=2) for tensor in (query, key, value)), strict=True)
        attended = list[Tensor]()
        for part, tensors in zip(whole.parts, split, strict=False):  # all but what is filled up
            padded = [part.unpack(tensor.transpose(1, 2)).transpose(1, 2) for tensor in tensors]
            found, _ = attend(module, *padded, part.visible(_patterns[module]), is_causal=False, **options)
            attended.append(part.pack(found))
        filled = attended[0].new_zeros(1, whole.num_filled, *attended[0].shape[2:])
        return torch.cat([*attended, filled], dim=1), None

    name = f"{PACKED}_{implementation}"
    AttentionInterface.register(name, attend_packed)
    AttentionMaskInterface.register(name, lambda *_args, **_options: None)
    return name


def _span(pattern: Pattern, mask: Tensor) -> Tensor:
    """A pattern over the positions of a row, booleans that broadcast to (longest, longest)."""
    from transformers.masking_utils import bidirectional_mask_function

    if pattern is bidirectional_mask_function:  # type: ignore[comparison-overlap]  # theirs is annotated with ints
        return mask.new_ones(1, 1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    return pattern(0, 0, positions[:, None], positions)


def _make_probe(config: Any) -> dict[str, Tensor]:
    """Two rows, one with padding, of tokens that are not the padding."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]]) % config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    return {"input_ids": ids.where(mask.bool(), torch.tensor(config.pad_token_id)), "attention_mask": mask}


def _compute_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The logits of the tokens, or of the rows, in evaluation; the model is left in training."""
    model.eval()
    try:
        with torch.no_grad():
            logits: Tensor = model(**batch).logits
    finally:
        model.train()
    return logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]
