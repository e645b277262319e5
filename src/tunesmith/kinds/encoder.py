"""From texts to token ids, uncut: in batches through the `tokenizers` library, one by one through a python tokenizer.

The `tokenizers` library is all that most models need, and is imported in a tenth of a second; transformers takes many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tunesmith.kinds.overflow import Run

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

IntArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Encodings:
    """The token ids of some rows, uncut.

    Attributes:
        input_ids: int32, of all rows one after another.
        token_type_ids: int8, as many; None where the model has no token types.
        lengths: Tokens of each row, shape (num_rows,).
        find_texts: Row number -> where its text lies in it, or its two texts; around them are special tokens.
    """

    input_ids: IntArray
    token_type_ids: IntArray | None
    lengths: IntArray
    find_texts: Callable[[int], list[Run]]


class Encoder(Protocol):
    """A tokenizer that is ready to be used; it neither cuts nor pads."""

    @property
    def pad_token_id(self) -> int:
        """The id that fills up a batch."""

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a text."""

    @property
    def has_types(self) -> bool:
        """Whether the model reads token type ids."""

    @property
    def keeps_end(self) -> bool:
        """Whether a text that is too long is cut at its beginning."""

    @property
    def favors_first(self) -> bool:
        """Which text of a pair gets an odd token when both are cut."""

    def num_special(self, *, is_pair: bool) -> int:
        """Special tokens that are added to each row."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Encodings:
        """The token ids of texts, or of pairs of texts."""


@dataclass(frozen=True)
class FastEncoder:
    """An encoder of the `tokenizers` library; what it is made of is its own, and nobody else's."""

    backend: Tokenizer
    pad_token_id: int
    eos_token_id: int | None
    has_types: bool
    keeps_end: bool
    favors_first: bool = field(default=False, init=False)

    @classmethod
    def from_json(cls, text: str, *, splits_special_tokens: bool, **facts: Any) -> FastEncoder:
        """The encoder that a tokenizer.json describes, whatever cut and padding that asks for.

        Args:
            text: What is in a tokenizer.json.
            splits_special_tokens: Whether a special token that is written out in a text is text like any other.
            **facts: The other attributes.
        """
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(text)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = splits_special_tokens
        return cls(backend, **facts)

    def num_special(self, *, is_pair: bool) -> int:
        """Special tokens that are added to each row."""
        return int(self.backend.num_special_tokens_to_add(is_pair))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Encodings:
        """The token ids of texts, or of pairs of texts, in all threads that the machine has."""
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.backend.encode_batch_fast(rows)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        return Encodings(
            input_ids=_flatten([encoding.ids for encoding in encodings], np.int32, lengths),
            token_type_ids=self._find_types(encodings, lengths, is_pair=pairs is not None) if self.has_types else None,
            lengths=lengths,
            find_texts=lambda row: self._find_texts(encodings[row], is_pair=pairs is not None),
        )

    def _find_types(self, encodings: Sequence[Encoding], lengths: IntArray, *, is_pair: bool) -> IntArray:
        if not is_pair and self._around is not None and not self._around.has_types:
            return np.zeros(int(lengths.sum()), np.int8)
        return _flatten([encoding.type_ids for encoding in encodings], np.int8, lengths)

    def _find_texts(self, encoding: Encoding, *, is_pair: bool) -> list[Run]:
        if not is_pair and self._around is not None:
            return [(self._around.num_before, len(encoding) - self._around.num_behind)]
        numbers = encoding.sequence_ids
        return [_find_run(numbers, number) for number in range(1 + is_pair)]

    @cached_property
    def _around(self) -> _Around | None:
        """What every single text has around it; None where that cannot be told."""
        encoding = self.backend.encode("a")
        if 0 not in encoding.sequence_ids:
            return None
        start, stop = _find_run(encoding.sequence_ids, 0)
        return _Around(start, len(encoding) - stop, any(encoding.type_ids))


@dataclass(frozen=True)
class _Around:
    """The special tokens before and behind a single text, and whether any of its tokens has another type than 0."""

    num_before: int
    num_behind: int
    has_types: bool


@dataclass(frozen=True)
class PythonEncoder:
    """An encoder of a tokenizer that is written in Python, row by row."""

    tokenizer: PreTrainedTokenizerBase
    pad_token_id: int
    eos_token_id: int | None
    has_types: bool
    keeps_end: bool
    favors_first: bool = field(default=True, init=False)

    def num_special(self, *, is_pair: bool) -> int:
        """Special tokens that are added to each row."""
        return int(self.tokenizer.num_special_tokens_to_add(pair=is_pair))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Encodings:
        """The token ids of texts, or of pairs of texts."""
        seconds: Sequence[str | None] = [None] * len(texts) if pairs is None else pairs
        rows = [
            self.tokenizer(first, second, truncation=False, return_token_type_ids=True, verbose=False)
            for first, second in zip(texts, seconds, strict=True)
        ]
        lengths = np.fromiter((len(row["input_ids"]) for row in rows), np.int64, len(rows))
        types = _flatten([row["token_type_ids"] for row in rows], np.int8, lengths) if self.has_types else None
        return Encodings(
            input_ids=_flatten([row["input_ids"] for row in rows], np.int32, lengths),
            token_type_ids=types,
            lengths=lengths,
            find_texts=lambda row: self._find_texts(texts[row], seconds[row]),
        )

    def _find_texts(self, first: str, second: str | None) -> list[Run]:
        # Ids that no token has tell where the special tokens go.
        marked = [[-1] * self._count(first), None if second is None else [-2] * self._count(second)]
        ids = self.tokenizer.build_inputs_with_special_tokens(*marked)
        return [_find_run(ids, -1)] if second is None else [_find_run(ids, -1), _find_run(ids, -2)]

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])


def _flatten(rows: Sequence[Sequence[int]], dtype: type[np.integer[Any]], lengths: IntArray) -> IntArray:
    return np.fromiter(chain.from_iterable(rows), dtype, int(lengths.sum()))


def _find_run(values: list[Any], wanted: int) -> Run:
    """Where a value stands, which stands in one run or nowhere."""
    number = values.count(wanted)
    start = values.index(wanted) if number else 0
    return start, start + number
