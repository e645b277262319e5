"""From texts to token ids: in batches through the fast tokenizer's backend, one by one through a python one."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1000
"""Texts that go to the tokenizer together: enough for its threads, little memory. The ids do not depend on it."""

Pieces = tuple[Sequence[int], Sequence[int], bool]
"""Token ids, token type ids and whether the example was cut."""


@dataclass(frozen=True)
class TokenRows:
    """The token ids of a list of texts.

    Attributes:
        input_ids: The ids of all rows one after another, shape (num_tokens,).
        token_type_ids: As many; None where the model has no token types.
        offsets: Where each row begins, and the end; shape (num_rows + 1,).
        num_truncated: Rows that were cut at the maximal length.
    """

    input_ids: np.ndarray[Any, Any]
    token_type_ids: np.ndarray[Any, Any] | None
    offsets: np.ndarray[Any, Any]
    num_truncated: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each row, shape (num_rows,)."""
        return np.diff(self.offsets)

    def columns(self) -> dict[str, pa.Array]:
        """The rows as Arrow columns of type list<int32>."""
        named = {"input_ids": self.input_ids, "token_type_ids": self.token_type_ids}
        return {name: pa.ListArray.from_arrays(self.offsets, ids) for name, ids in named.items() if ids is not None}


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, max_length: int | None
) -> TokenRows:
    """Tokenize texts, or pairs of texts, with the model's special tokens.

    Args:
        tokenizer: A tokenizer of transformers; it is not changed.
        texts: The texts, without nulls.
        pairs: The second texts, as many.
        max_length: Tokens that a row may have; the longer text of a pair is cut first. None cuts nothing.

    Raises:
        ModelError: `max_length` leaves no room beside the special tokens.
    """
    num_special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length is not None and max_length <= num_special:
        raise ModelError(
            f"tokenize.max_length is {max_length}, but the tokenizer adds {num_special} special tokens to each "
            f"example; it must be at least {num_special + 1}."
        )
    encode = _encode_fast if tokenizer.is_fast else _encode_slow
    limit = sys.maxsize if max_length is None else max_length
    input_ids, token_type_ids, offsets, num_truncated = array("i"), array("i"), array("i", [0]), 0
    for ids, type_ids, is_cut in encode(tokenizer, texts, pairs, limit):
        input_ids.extend(ids)
        token_type_ids.extend(type_ids)
        offsets.append(len(input_ids))
        num_truncated += is_cut
    has_types = "token_type_ids" in tokenizer.model_input_names
    return TokenRows(
        np.array(input_ids, np.int32),
        np.array(token_type_ids, np.int32) if has_types else None,
        np.array(offsets, np.int32),
        num_truncated,
    )


def take_rows(rows: TokenRows, numbers: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Some rows, as a collator takes them."""
    taken = []
    for number in numbers:
        part = slice(rows.offsets[number], rows.offsets[number + 1])
        row = {"input_ids": rows.input_ids[part]}
        if rows.token_type_ids is not None:
            row["token_type_ids"] = rows.token_type_ids[part]
        taken.append(row)
    return taken


def cut_by_length(rows: TokenRows, batch_size: int) -> list[np.ndarray[Any, Any]]:
    """Row numbers in batches of like length, longest first: a batch that does not fit in memory fails at once."""
    order = np.argsort(-rows.lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def pad(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """Pad rows on the right to the longest of them.

    Returns:
        input_ids, attention_mask and, where the rows have them, token_type_ids; int64, shape (num_rows, longest).
    """
    lengths = np.array([len(row["input_ids"]) for row in rows])
    attention_mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    batch = {"input_ids": fill(rows, "input_ids", attention_mask, pad_token_id), "attention_mask": attention_mask}
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = fill(rows, "token_type_ids", attention_mask, 0)
    return batch


def fill(
    rows: Sequence[Mapping[str, Any]], column: str, attention_mask: np.ndarray[Any, Any], padding: int
) -> np.ndarray[Any, Any]:
    """A column's values where the mask is 1, and `padding` elsewhere; int64, the shape of the mask."""
    filled = np.full(attention_mask.shape, padding, np.int64)
    filled[attention_mask == 1] = np.concatenate([np.asarray(row[column], np.int64) for row in rows])
    return filled


def _encode_fast(
    tokenizer: PreTrainedTokenizerBase, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, max_length: int
) -> Iterator[Pieces]:
    from tokenizers import Tokenizer

    # A copy, because the cut and the padding that a tokenizer.json may ask for are ours to decide. We cut ourselves:
    # the backend also builds every overflowing window, for a pair of long texts their product (minutes, gigabytes).
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    keep_end = tokenizer.truncation_side == "left"
    for start in range(0, len(texts), BATCH_ROWS):
        batch = texts.slice(start, BATCH_ROWS).to_pylist()
        if pairs is not None:
            batch = list(zip(batch, pairs.slice(start, BATCH_ROWS).to_pylist(), strict=True))
        for encoding in backend.encode_batch_fast(batch):
            if len(encoding) <= max_length:
                yield encoding.ids, encoding.type_ids, False
            else:
                kept = _find_kept(encoding.sequence_ids, max_length, keep_end=keep_end)
                yield np.array(encoding.ids)[kept].tolist(), np.array(encoding.type_ids)[kept].tolist(), True


def _encode_slow(
    tokenizer: PreTrainedTokenizerBase, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, max_length: int
) -> Iterator[Pieces]:
    seconds = [None] * len(texts) if pairs is None else pairs.to_pylist()
    for first, second in zip(texts.to_pylist(), seconds, strict=True):
        row = tokenizer(first, second, truncation=False, return_token_type_ids=True)
        is_cut = len(row["input_ids"]) > max_length
        if is_cut:
            row = tokenizer(first, second, truncation=True, max_length=max_length, return_token_type_ids=True)
        yield row["input_ids"], row["token_type_ids"], is_cut


def _find_kept(sequence_ids: Sequence[int | None], max_length: int, *, keep_end: bool) -> np.ndarray[Any, Any]:
    """Which tokens stay: all special ones, and of each text as many as `longest first` gives it."""
    sequences = np.array([-1 if number is None else number for number in sequence_ids])
    first, second = np.flatnonzero(sequences == 0), np.flatnonzero(sequences == 1)
    special = np.flatnonzero(sequences == -1)
    num_first, num_second = _share(len(first), len(second), max_length - len(special))
    if keep_end:
        parts = (special, first[len(first) - num_first :], second[len(second) - num_second :])
    else:
        parts = (special, first[:num_first], second[:num_second])
    return np.sort(np.concatenate(parts))


def _share(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text fit in `room`: the longer is cut until both are equal, then both are cut.

    Example:
        >>> _share(10, 2, 8), _share(10, 10, 9), _share(3, 10, 9)
        ((6, 2), (4, 5), (3, 6))
    """
    shorter = min(first, second, room // 2)
    return (room - shorter, shorter) if first > second else (shorter, room - shorter)
