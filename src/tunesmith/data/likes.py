"""Rows that have their like in another split: each with the most similar one there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.near_duplicates import Pairs, find_similar_pairs
from tunesmith.data.partition import CodeArray
from tunesmith.data.rows import FloatArray, IntArray

BETWEEN_COLUMNS = "\x1f"


@dataclass(frozen=True)
class Likes:
    """Rows that have their like in another split, each with the most similar row of that split.

    Attributes:
        rows: Position of the row, shape (num_likes,).
        partners: Position of its like, shape (num_likes,).
        similarity: How similar the two are, shape (num_likes,); 1 is equal but for case, punctuation and order.
    """

    rows: IntArray
    partners: IntArray
    similarity: FloatArray

    def between(self, codes: CodeArray, split: int, other: int) -> Likes:
        """Those of rows of one split with their likes in another."""
        chosen = (codes[self.rows] == split) & (codes[self.partners] == other)
        return Likes(self.rows[chosen], self.partners[chosen], self.similarity[chosen])


def find_likes(texts: Sequence[pa.Array], codes: CodeArray, *, threshold: float, seed: int = 1) -> Likes:
    """For every row, the most similar row of each other split that is similar enough.

    Args:
        texts: Columns of normalized texts, shape (num_rows,) each; a row that is empty in all of them is like no other.
        codes: The split of each row, in [0, 8), shape (num_rows,).
        threshold: The least similarity, in (0, 1].
        seed: Chooses the hash functions; the result hardly depends on them.
    """
    distinct, numbers = _tell_apart(texts)
    members = np.zeros(len(distinct[0]), dtype=np.uint8)
    np.bitwise_or.at(members, numbers, np.uint8(1) << codes.astype(np.uint8))
    is_empty = np.all([pc.equal(column, "").to_numpy(zero_copy_only=False) for column in distinct], axis=0)
    members[is_empty] = 0
    filled = np.flatnonzero(~is_empty)
    compared = [column.take(pa.array(filled)) for column in distinct] if is_empty.any() else distinct
    pairs = find_similar_pairs(compared, members[filled], threshold=threshold, seed=seed)
    return _spread(Pairs(filled[pairs.left], filled[pairs.right], pairs.similarity), members, numbers, codes)


def _tell_apart(texts: Sequence[pa.Array]) -> tuple[list[pa.Array], IntArray]:
    """The distinct rows, and for each row which of them it is, shape (num_rows,)."""
    encoded = pc.binary_join_element_wise(*texts, pa.scalar(BETWEEN_COLUMNS, texts[0].type)).dictionary_encode()
    numbers = encoded.indices.to_numpy()
    if len(texts) == 1:
        return [encoded.dictionary], numbers
    first = pa.array(_first_row(numbers, np.ones(len(numbers), dtype=bool), len(encoded.dictionary)))
    return [column.take(first) for column in texts], numbers


def _spread(pairs: Pairs, members: Any, numbers: IntArray, codes: CodeArray) -> Likes:
    """From pairs of texts to rows: each row with the best of each other split."""
    itself = np.arange(len(members))
    text = np.concatenate([pairs.left, pairs.right, itself])
    partner = np.concatenate([pairs.right, pairs.left, itself])
    similarity = np.concatenate([pairs.similarity, pairs.similarity, np.ones(len(members))])
    order = np.lexsort((partner, -similarity, text))
    text, partner, similarity = text[order], partner[order], similarity[order]
    found = [Likes(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))]
    for split in np.unique(codes):
        places = np.flatnonzero((members[partner] >> np.uint8(split)) & 1)
        best, first = np.unique(text[places], return_index=True)
        place_of = np.full(len(members), -1, dtype=np.int64)
        place_of[best] = places[first]
        rows = np.flatnonzero((codes != split) & (place_of[numbers] >= 0))
        chosen = place_of[numbers[rows]]
        found.append(
            Likes(rows, _first_row(numbers, codes == split, len(members))[partner[chosen]], similarity[chosen])
        )
    return Likes(
        *(np.concatenate([getattr(part, name) for part in found]) for name in ("rows", "partners", "similarity"))
    )


def _first_row(numbers: IntArray, is_chosen: Any, num_texts: int) -> IntArray:
    """The first of the chosen rows with each text, shape (num_texts,); -1 where there is none."""
    rows = np.flatnonzero(is_chosen)[::-1]
    first = np.full(num_texts, -1, dtype=np.int64)
    first[numbers[rows]] = rows
    return first
