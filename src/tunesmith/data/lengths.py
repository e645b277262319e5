"""How long texts are, in characters and in words: histograms that merge exactly, whatever parts they were made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tunesmith.data.rows import IntArray

EDGES = np.array([0, 1, 2, 3, *(step << doubling for doubling in range(27) for step in (4, 5, 6, 7))])
"""Where bins begin: one for each length up to 7, then four to a doubling, so that a bin is at most 25 % wide."""

SPACE = 0x20
"""ASCII's space; what is below it is tabs, line ends and other control characters."""


class Lengths(BaseModel):
    """How long the texts of a column are."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_texts: int
    """How many were measured; nulls are not."""
    total: int
    """All lengths together."""
    shortest: int
    """The smallest length; 0 where there are no texts."""
    longest: int
    """The largest."""
    counts: dict[int, int]
    """Where a bin begins -> how many texts are in it."""

    @property
    def mean(self) -> float:
        """The mean length."""
        return self.total / self.num_texts if self.num_texts else 0.0

    def by_bin(self) -> IntArray:
        """The texts in every bin, shape (len(EDGES),)."""
        counts = np.zeros(len(EDGES), dtype=np.int64)
        counts[np.searchsorted(EDGES, list(self.counts))] = list(self.counts.values())
        return counts

    def quantile(self, fraction: float) -> int:
        """The length that this fraction of the texts does not exceed, exact to the width of a bin.

        Args:
            fraction: In [0, 1].
        """
        if not self.num_texts:
            return 0
        reached = np.cumsum(self.by_bin())
        place = int(np.searchsorted(reached, max(fraction * self.num_texts, 1)))
        last = int(EDGES[place + 1]) - 1 if place + 1 < len(EDGES) else self.longest
        return min(max(last, self.shortest), self.longest)


def measure_texts(texts: pa.Array) -> dict[str, Any]:
    """The lengths of texts in characters and words, as JSON values that `merge_lengths` takes.

    Args:
        texts: Strings, without nulls.
    """
    characters = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return {"characters": _measure(characters), "words": _measure(count_words(texts))}


def merge_lengths(parts: Iterable[Mapping[str, Any]]) -> Lengths:
    """The lengths of all parts together."""
    measured = [part for part in parts if part["n"]]
    counts: Counter[int] = Counter()
    for part in measured:
        for edge, number in part["counts"]:
            counts[edge] += number
    return Lengths(
        num_texts=sum(part["n"] for part in measured),
        total=sum(part["total"] for part in measured),
        shortest=min((part["shortest"] for part in measured), default=0),
        longest=max((part["longest"] for part in measured), default=0),
        counts=dict(sorted(counts.items())),
    )


def count_words(texts: pa.Array) -> IntArray:
    """The words of each text: what stands between ASCII's spaces, tabs, line ends and other control characters.

    Args:
        texts: Strings, without nulls.

    Returns:
        Shape (num_texts,).
    """
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if len(offsets) == 0 or offsets[0] == offsets[-1]:
        return np.zeros(len(texts), dtype=np.int64)
    data = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    is_word = data > SPACE
    begins = is_word.copy()
    begins[1:] &= ~is_word[:-1]
    firsts = offsets[:-1][offsets[:-1] < offsets[1:]]
    begins[firsts] = is_word[firsts]
    counts: IntArray = np.diff(np.searchsorted(np.flatnonzero(begins), offsets))
    return counts


def _measure(lengths: IntArray) -> dict[str, Any]:
    if not len(lengths):
        return {"n": 0, "total": 0, "shortest": 0, "longest": 0, "counts": []}
    counts = np.bincount(np.searchsorted(EDGES, lengths, side="right") - 1)
    bins = np.flatnonzero(counts)
    return {
        "n": len(lengths),
        "total": int(lengths.sum(dtype=np.int64)),
        "shortest": int(lengths.min()),
        "longest": int(lengths.max()),
        "counts": [[int(EDGES[place]), int(counts[place])] for place in bins],
    }
