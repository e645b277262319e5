"""From texts to token ids of the right length, and from those to batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.kinds.encoder import Encoder, Encodings
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.overflow import Cut, check_room, cut_row, expand_runs
from tunesmith.kinds.ragged import FeatureRows, Ragged

BATCH_ROWS = 1000
"""Texts that go to the tokenizer together: enough for its threads, little memory. The ids do not depend on it."""
MAX_NAMED = 5
"""Rows that are too long, of which the number and the length are kept."""


@dataclass(frozen=True)
class TokenRows:
    """The token ids of a list of texts, or of pairs.

    Attributes:
        input_ids: The ids of all examples one after another, shape (num_tokens,).
        token_type_ids: As many; None where the model has no token types.
        offsets: Where each example begins, and the end; shape (num_examples + 1,).
        texts: The number of the text that each example is of, ascending; shape (num_examples,).
        counts: num_rows, num_examples, num_tokens of the examples, num_tokens_read of the uncut rows; the rows longer
            than the limit (num_overflowing), those of them that were cut short (num_truncated) and that are no example
            (num_dropped), and the num_tokens_lost so.
        too_long: The number of tokens of the first rows that are longer than the limit, by their number.
    """

    input_ids: np.ndarray[Any, Any]
    token_type_ids: np.ndarray[Any, Any] | None
    offsets: np.ndarray[Any, Any]
    texts: np.ndarray[Any, Any]
    counts: Mapping[str, int]
    too_long: Mapping[int, int]

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each example, shape (num_examples,)."""
        return np.diff(self.offsets)

    @property
    def windows(self) -> np.ndarray[Any, Any]:
        """The number of each example among those of its text, shape (num_examples,)."""
        return np.arange(len(self.texts)) - np.searchsorted(self.texts, self.texts)

    def columns(self) -> dict[str, pa.Array]:
        """The examples as Arrow columns, lists of int32 and of int8."""
        named = {"input_ids": self.input_ids, "token_type_ids": self.token_type_ids}
        return {name: pa.ListArray.from_arrays(self.offsets, ids) for name, ids in named.items() if ids is not None}


def tokenize(encoder: Encoder, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, limit: Limit) -> TokenRows:
    """Tokenize texts, or pairs of texts, with the model's special tokens.

    Args:
        encoder: The model's tokenizer.
        texts: The texts, without nulls.
        pairs: The second texts, as many.
        limit: How long an example may be, and what becomes of a longer row; `stop` is as `drop` here.

    Raises:
        ModelError: The limit leaves no room beside the special tokens.
    """
    check_room(limit, encoder.num_special(is_pair=pairs is not None), is_pair=pairs is not None)
    parts = list(_tokenize_batches(encoder, texts, pairs, limit))
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
    input_ids = np.concatenate([np.zeros(0, np.int32), *(part.input_ids for part in parts)])
    types = np.concatenate([np.zeros(0, np.int8), *(part.types for part in parts)]) if encoder.has_types else None
    numbers = np.concatenate([np.zeros(0, np.int64), *(part.texts for part in parts)])
    too_long = [item for part in parts for item in part.too_long.items()]
    own = [part.counts for part in parts]
    counts = {"num_rows": len(texts), "num_examples": len(numbers), "num_tokens": len(input_ids)}
    counts |= {name: sum(part[name] for part in own) for name in _COUNTS}
    return TokenRows(input_ids, types, np.cumsum(lengths).astype(np.int32), numbers, counts, dict(too_long[:MAX_NAMED]))


def fill_empty(rows: TokenRows, token: int) -> TokenRows:
    """The same examples, each with a token at least: a model has no answer for nothing."""
    is_empty = rows.lengths == 0
    places = rows.offsets[:-1][is_empty]
    if not len(places):
        return rows
    types = None if rows.token_type_ids is None else np.insert(rows.token_type_ids, places, 0)
    return replace(
        rows,
        input_ids=np.insert(rows.input_ids, places, token),
        token_type_ids=types,
        offsets=np.concatenate([[0], np.cumsum(np.maximum(rows.lengths, 1))]).astype(np.int32),
        counts={**rows.counts, "num_tokens": rows.counts["num_tokens"] + len(places)},
    )


def take_rows(rows: TokenRows, numbers: np.ndarray[Any, Any]) -> FeatureRows:
    """Some examples, as a collator takes them."""
    lengths = rows.lengths[numbers]
    places = expand_runs(rows.offsets[numbers], lengths)
    named = {"input_ids": rows.input_ids, "token_type_ids": rows.token_type_ids}
    return FeatureRows({name: Ragged(ids[places], lengths) for name, ids in named.items() if ids is not None}, {})


def cut_by_length(rows: TokenRows, batch_size: int) -> list[np.ndarray[Any, Any]]:
    """Example numbers in batches of like length, longest first: a batch too large for memory fails at once."""
    order = np.argsort(-rows.lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def pad(rows: FeatureRows, pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """Pad rows on the right to the longest of them.

    Returns:
        input_ids, attention_mask and, where the rows have them, token_type_ids; int64, shape (num_rows, longest).
    """
    ids = rows.tokens["input_ids"]
    batch = {"input_ids": ids.pad(pad_token_id), "attention_mask": ids.mask().astype(np.int64)}
    if "token_type_ids" in rows.tokens:
        batch["token_type_ids"] = rows.tokens["token_type_ids"].pad(0)
    return batch


_COUNTS = ("num_tokens_read", "num_overflowing", "num_truncated", "num_dropped", "num_tokens_lost")


@dataclass(frozen=True)
class _Part:
    """The examples of some rows."""

    input_ids: np.ndarray[Any, Any]
    types: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]
    texts: np.ndarray[Any, Any]
    counts: Mapping[str, int]
    too_long: Mapping[int, int]


def _tokenize_batches(
    encoder: Encoder, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, limit: Limit
) -> Iterator[_Part]:
    for start in range(0, len(texts), BATCH_ROWS):
        seconds = None if pairs is None else pairs.slice(start, BATCH_ROWS)
        yield _fit(encoder.encode(texts.slice(start, BATCH_ROWS), seconds), encoder, limit, start)


def _fit(rows: Encodings, encoder: Encoder, limit: Limit, first: int) -> _Part:
    """Examples within the limit.

    Args:
        rows: Uncut rows.
        encoder: Says how it cuts.
        limit: The limit.
        first: The number of the first row.
    """
    types = np.zeros(0, np.int8) if rows.token_type_ids is None else rows.token_type_ids
    longest = np.iinfo(np.int64).max if limit.max_length is None else limit.max_length
    long_rows = np.flatnonzero(rows.lengths > longest)
    texts = first + np.arange(len(rows.lengths))
    if not len(long_rows):
        return _Part(rows.input_ids, types, rows.lengths, texts, _count(rows, {}), {})
    cuts = {
        int(row): cut_row(
            int(rows.lengths[row]),
            rows.find_texts(int(row)),
            limit,
            keeps_end=encoder.keeps_end,
            favors_first=encoder.favors_first,
        )
        for row in long_rows
    }
    places, lengths, numbers = _arrange(rows.lengths, cuts)
    return _Part(
        rows.input_ids[places],
        types[places] if rows.token_type_ids is not None else types,
        lengths,
        texts[numbers],
        _count(rows, cuts),
        {int(texts[row]): int(rows.lengths[row]) for row in long_rows[:MAX_NAMED]},
    )


def _arrange(
    lengths: np.ndarray[Any, Any], cuts: Mapping[int, Cut]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The places of all tokens that stay, the length of each example, and the number of the row that it is of."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    runs: list[tuple[int, int]] = []
    sizes: list[Any] = []
    numbers: list[Any] = []
    done = 0
    for row, cut in cuts.items():
        begin = int(starts[row])
        runs.append((int(starts[done]), begin))
        runs += [(begin + start, begin + stop) for example in cut.examples for start, stop in example]
        sizes += [lengths[done:row], [sum(stop - start for start, stop in example) for example in cut.examples]]
        numbers += [np.arange(done, row), [row] * len(cut.examples)]
        done = row + 1
    if done < len(lengths):
        runs.append((int(starts[done]), int(ends[-1])))
        sizes.append(lengths[done:])
        numbers.append(np.arange(done, len(lengths)))
    bounds = np.array(runs, np.int64).reshape(-1, 2)
    places = expand_runs(bounds[:, 0], bounds[:, 1] - bounds[:, 0])
    return places, np.concatenate(sizes).astype(np.int64), np.concatenate(numbers).astype(np.int64)


def _count(rows: Encodings, cuts: Mapping[int, Cut]) -> dict[str, int]:
    return {
        "num_tokens_read": len(rows.input_ids),
        "num_overflowing": len(cuts),
        "num_truncated": sum(1 for cut in cuts.values() if cut.examples and cut.num_lost),
        "num_dropped": sum(1 for cut in cuts.values() if not cut.examples),
        "num_tokens_lost": sum(cut.num_lost for cut in cuts.values()),
    }
