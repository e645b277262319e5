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
import pyarrow as pa

from tunesmith.kinds.overflow import Run
from tunesmith.kinds.words import Frame, WordRows, Words, find_frame, find_run, splits_at_spaces

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

    def without_written(self, token: int) -> Encodings:
        """The same rows without a token that every row ends with, where a text has it written out, too."""
        ends = np.cumsum(self.lengths)
        starts = ends - self.lengths
        before = np.concatenate([[0], np.cumsum(self.input_ids == token)])
        is_kept = np.ones(len(self.input_ids), bool)
        for row in np.flatnonzero(before[ends] - before[starts] > 1):
            for start, stop in self.find_texts(int(row)):
                text = slice(starts[row] + start, starts[row] + stop)
                is_kept[text] = self.input_ids[text] != token
        if is_kept.all():
            return self
        places = np.concatenate([[0], np.cumsum(is_kept)])
        return Encodings(
            input_ids=self.input_ids[is_kept],
            token_type_ids=None if self.token_type_ids is None else self.token_type_ids[is_kept],
            lengths=places[ends] - places[starts],
            find_texts=lambda row: [
                (
                    int(places[starts[row] + start] - places[starts[row]]),
                    int(places[starts[row] + stop] - places[starts[row]]),
                )
                for start, stop in self.find_texts(row)
            ],
        )


class Encoder(Protocol):
    """A tokenizer that is ready to be used; it neither cuts nor pads."""

    @property
    def pad_token_id(self) -> int:
        """The id that fills up a batch."""

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a text."""

    @property
    def start_token_id(self) -> int:
        """The id that a text is given which would have no token."""

    @property
    def has_types(self) -> bool:
        """Whether the model reads token type ids."""

    @property
    def ends_once(self) -> bool:
        """Whether a text that names the token that ends a text is read without: the model looks at where that is."""

    @property
    def keeps_end(self) -> bool:
        """Whether a text that is too long is cut at its beginning."""

    @property
    def favors_first(self) -> bool:
        """Which text of a pair gets an odd token when both are cut."""

    def num_special(self, *, is_pair: bool) -> int:
        """Special tokens that are added to each row."""

    def encode(self, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None) -> Encodings:
        """The token ids of texts, or of pairs of texts, without nulls."""


@dataclass(frozen=True)
class FastEncoder:
    """An encoder of the `tokenizers` library; what it is made of is its own, and nobody else's."""

    backend: Tokenizer
    pad_token_id: int
    eos_token_id: int | None
    start_token_id: int
    has_types: bool
    ends_once: bool
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

    def encode(self, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None) -> Encodings:
        """The token ids of texts, or of pairs of texts, in all threads that the machine has."""
        columns = [texts] if pairs is None else [texts, pairs]
        frame = self._frames[len(columns) - 1]
        found = None
        if self._words is not None and frame is not None:
            found = self._words.encode([column.combine_chunks() for column in columns], frame)
        return _end_once(self._encode_whole(columns, frame) if found is None else self._describe(found), self)

    def _describe(self, rows: WordRows) -> Encodings:
        ends = np.cumsum(rows.sizes, axis=1)
        return Encodings(
            input_ids=rows.input_ids,
            token_type_ids=rows.token_type_ids if self.has_types else None,
            lengths=ends[:, -1],
            find_texts=lambda row: [
                (int(ends[row, part - 1]), int(ends[row, part])) for part in range(1, ends.shape[1], 2)
            ],
        )

    def _encode_whole(self, columns: Sequence[pa.ChunkedArray], frame: Frame | None) -> Encodings:
        texts = [column.to_pylist() for column in columns]
        encodings = self.backend.encode_batch_fast(texts[0] if len(texts) == 1 else list(zip(*texts, strict=True)))
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        types = None
        if self.has_types:
            types = self._find_types(encodings, lengths, frame)
        return Encodings(
            input_ids=_flatten([encoding.ids for encoding in encodings], np.int32, lengths),
            token_type_ids=types,
            lengths=lengths,
            find_texts=lambda row: [find_run(encodings[row].sequence_ids, text) for text in range(len(columns))],
        )

    def _find_types(self, encodings: Sequence[Encoding], lengths: IntArray, frame: Frame | None) -> IntArray:
        if frame is not None and not any(frame.types):
            return np.zeros(int(lengths.sum()), np.int8)
        return _flatten([encoding.type_ids for encoding in encodings], np.int8, lengths)

    @cached_property
    def _frames(self) -> tuple[Frame | None, Frame | None]:
        """What is around a single text, and around the texts of a pair."""
        return find_frame(self.backend.encode("a"), 1), find_frame(self.backend.encode("a", "a"), 2)

    @cached_property
    def _words(self) -> Words | None:
        return Words(self.backend) if splits_at_spaces(self.backend) else None


@dataclass(frozen=True)
class PythonEncoder:
    """An encoder of a tokenizer that is written in Python, row by row."""

    tokenizer: PreTrainedTokenizerBase
    pad_token_id: int
    eos_token_id: int | None
    start_token_id: int
    has_types: bool
    ends_once: bool
    keeps_end: bool
    favors_first: bool = field(default=True, init=False)

    def num_special(self, *, is_pair: bool) -> int:
        """Special tokens that are added to each row."""
        return int(self.tokenizer.num_special_tokens_to_add(pair=is_pair))

    def encode(self, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None) -> Encodings:
        """The token ids of texts, or of pairs of texts."""
        firsts: list[str] = texts.to_pylist()
        seconds: list[str | None] = [None] * len(firsts) if pairs is None else pairs.to_pylist()
        rows = [
            self.tokenizer(first, second, truncation=False, return_token_type_ids=True, verbose=False)
            for first, second in zip(firsts, seconds, strict=True)
        ]
        lengths = np.fromiter((len(row["input_ids"]) for row in rows), np.int64, len(rows))
        types = _flatten([row["token_type_ids"] for row in rows], np.int8, lengths) if self.has_types else None
        encodings = Encodings(
            input_ids=_flatten([row["input_ids"] for row in rows], np.int32, lengths),
            token_type_ids=types,
            lengths=lengths,
            find_texts=lambda row: self._find_texts(firsts[row], seconds[row]),
        )
        return _end_once(encodings, self)

    def _find_texts(self, first: str, second: str | None) -> list[Run]:
        # Ids that no token has tell where the special tokens go.
        marked = [[-1] * self._count(first), None if second is None else [-2] * self._count(second)]
        ids = self.tokenizer.build_inputs_with_special_tokens(*marked)
        return [find_run(ids, -1)] if second is None else [find_run(ids, -1), find_run(ids, -2)]

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])


def _end_once(rows: Encodings, encoder: Encoder) -> Encodings:
    token = encoder.eos_token_id if encoder.ends_once else None
    return rows if token is None else rows.without_written(token)


def _flatten(rows: Sequence[Sequence[int]], dtype: type[np.integer[Any]], lengths: IntArray) -> IntArray:
    return np.fromiter(chain.from_iterable(rows), dtype, int(lengths.sum()))
