"""Texts that are nearly the same: MinHash finds the candidates, the exact similarity of their trigrams decides.

The hash functions are datasketch's. Its index in Python dictionaries takes 1 KB and 0.2 ms a text, and gives all texts
that share a bucket: quadratic where many come from one template. Here a bucket is a run of equal keys in a sorted
array, and a text meets the nearest ones of its run only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.shingles import find_trigrams, find_words

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Signatures = np.ndarray[Any, np.dtype[np.uint16]]
SetArray = np.ndarray[Any, np.dtype[np.uint8]]

NUM_HASHES = 128
BAND_HASHES = 4
"""Hashes of a band: four of 16 bits are one key of 64. In 32 bands, texts that share 60 % of their words meet in one
with a probability of 99 %, those that share 15 % with 2 %."""
DISTANCES = ((1,), (2,), (3, 4), (5, 6, 7, 8), tuple(range(9, 17)), tuple(range(17, 33)))
"""How far apart in their bucket texts are compared, and after which distances it is seen who needs no more."""
ENOUGH_PARTNERS = 2
"""A text with so many similar ones in a group meets no more of that group: templates make thousands."""
ENOUGH_COMPARISONS = 32
"""A text that was compared so often compares no more: its own near-duplicates came first."""
WORD_SHARE = 0.45
"""Candidates must share this part of the threshold of their words, as estimated: of 12,796 pairs of similar sentences
none shared less, and it spares most of the exact comparisons."""
BATCH_CHARACTERS = 4_000_000
"""Characters that are looked at together: 200 MB."""
BATCH_PAIRS = 65_536


class Pairs(NamedTuple):
    """Pairs of rows; `left` is the smaller index.

    Attributes:
        left: Index of a row, shape (num_pairs,).
        right: Index of another row, shape (num_pairs,).
        similarity: As `compute_similarity` gives it, shape (num_pairs,).
    """

    left: IntArray
    right: IntArray
    similarity: FloatArray


def find_similar_pairs(columns: Sequence[pa.Array], members: SetArray, *, threshold: float, seed: int = 1) -> Pairs:
    """Find pairs of similar rows that stand in different groups.

    Args:
        columns: Columns of normalized texts, shape (num_rows,) each; no row is empty in all of them.
        members: The groups that each row stands in, as a set of up to 8 bits, shape (num_rows,).
        threshold: The least similarity, in (0, 1].
        seed: Chooses the hash functions, in [0, 2**32).

    Returns:
        The pairs, in order: all of them, or for a row that has many, some of the nearest in each group.
    """
    texts = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, pa.scalar(" ", columns[0].type))
    search = _Search(columns, members, sign(texts, seed=seed), threshold)
    keys = search.signatures.view(np.uint64)
    num_bands = keys.shape[1]
    for band in range(num_bands):
        own = np.ascontiguousarray(keys[:, band])
        shared = _find_shared(own)
        # Sorted by the next band too, the most similar texts of a bucket stand next to each other.
        order = shared[np.lexsort((keys[shared, (band + 1) % num_bands], own[shared]))]
        for left, right in _pair_neighbors(own[order], order):
            search.compare(left, right)
    return search.pairs()


def sign(texts: pa.Array, *, seed: int) -> Signatures:
    """The MinHash of each text's words: the last 16 bits of the smallest value under each hash function.

    Returns:
        Shape (num_texts, NUM_HASHES).
    """
    from datasketch import MinHash

    factors, summands = MinHash(NUM_HASHES, seed=seed).permutations
    signatures = np.empty((len(texts), NUM_HASHES), dtype=np.uint16)
    for batch in _batches(_measure(texts)):
        words, owners = find_words(texts.slice(batch.start, batch.stop - batch.start))
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        values = _premix(words)
        for place, (factor, summand) in enumerate(zip(factors, summands, strict=True)):
            signatures[batch, place] = np.minimum.reduceat(values * factor + summand, starts).astype(np.uint16)
    return signatures


def compute_similarity(columns: Sequence[pa.Array], left: IntArray, right: IntArray) -> FloatArray:
    """How similar pairs of rows are: the Jaccard similarity of their trigrams, in the column where it is least.

    A trigram counts as often as it occurs; two empty texts are equal.

    Args:
        columns: Columns of normalized texts.
        left: Index of the first row of each pair, shape (num_pairs,).
        right: Index of the second one, shape (num_pairs,).

    Returns:
        Shape (num_pairs,), in [0, 1].
    """
    similarity = np.ones(len(left))
    for texts in columns:
        lengths = _measure(texts)
        for batch in _batches(lengths[left] + lengths[right]):
            found = _compare(texts, left[batch], right[batch])
            similarity[batch] = np.minimum(similarity[batch], found)
    return similarity


def _measure(texts: pa.Array) -> IntArray:
    lengths: IntArray = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return lengths


def _batches(sizes: IntArray) -> Iterator[slice]:
    """Consecutive items of about BATCH_CHARACTERS together; a larger one is alone."""
    numbers = (np.cumsum(sizes) - sizes) // BATCH_CHARACTERS
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(sizes)]
    return (slice(start, end) for start, end in pairwise(bounds) if start < end)


def _compare(texts: pa.Array, left: IntArray, right: IntArray) -> FloatArray:
    from scipy.sparse import csr_array

    rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    trigrams = find_trigrams(texts.take(pa.array(rows)))
    # A column a possible trigram: only those that occur take space.
    columns = trigrams.values.astype(np.int64)
    entries = (np.ones(len(columns), dtype=np.int32), (trigrams.owners, columns))
    counts = csr_array(entries, shape=(len(rows), np.iinfo(np.int64).max))
    sizes = counts.sum(axis=1)
    first, second = places[: len(left)], places[len(left) :]
    shared = counts[first].minimum(counts[second]).sum(axis=1)
    united = sizes[first] + sizes[second] - shared
    similarity: FloatArray = np.where(united == 0, 1.0, shared / np.maximum(united, 1))
    return similarity


class _Search:
    """The comparisons made so far, and what they found."""

    def __init__(
        self, columns: Sequence[pa.Array], members: SetArray, signatures: Signatures, threshold: float
    ) -> None:
        self.columns = columns
        self.members = members
        self.signatures = signatures
        self.threshold = threshold
        self._num_comparisons = np.zeros(len(members), dtype=np.int32)
        self._num_partners = np.zeros((len(members), 8), dtype=np.int32)
        self._served = np.zeros(len(members), dtype=np.uint8)
        """The groups of which a text has met enough, as a set of bits."""
        self._compared = np.empty(0, dtype=np.int64)
        self._found: list[Pairs] = []

    def compare(self, left: IntArray, right: IntArray) -> None:
        """Compare pairs of texts, as far as that tells anything new."""
        left, right = np.minimum(left, right), np.maximum(left, right)
        is_wanted = self._want(left, right)
        left, right = left[is_wanted], right[is_wanted]
        codes = left * len(self.members) + right
        is_new = ~_is_in(codes, self._compared)
        left, right, codes = left[is_new], right[is_new], codes[is_new]
        shares = _share_of_words(self.signatures, left, right)
        is_likely = shares >= WORD_SHARE * self.threshold
        left, right = left[is_likely], right[is_likely]
        if len(left) == 0:
            return
        self._compared = np.sort(np.concatenate([self._compared, codes[is_likely]]), kind="stable")
        similarity = compute_similarity(self.columns, left, right)
        is_similar = similarity >= self.threshold
        self._found.append(Pairs(left[is_similar], right[is_similar], similarity[is_similar]))
        self._count(left, right, is_similar)

    def pairs(self) -> Pairs:
        """What was found, in order."""
        if not self._found:
            return Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
        left, right, similarity = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        order = np.lexsort((right, left))
        return Pairs(left[order], right[order], similarity[order])

    def _want(self, left: IntArray, right: IntArray) -> Any:
        mine, theirs = self.members[left], self.members[right]
        is_across = ((mine | theirs) & ((mine | theirs) - 1)) != 0
        return is_across & (((theirs & ~self._served[left]) | (mine & ~self._served[right])) != 0)

    def _count(self, left: IntArray, right: IntArray, is_similar: Any) -> None:
        for text, partner in ((left, right), (right, left)):
            np.add.at(self._num_comparisons, text, 1)
            for group in range(8):
                is_member = is_similar & ((self.members[partner] >> group) & 1 == 1)
                np.add.at(self._num_partners[:, group], text[is_member], 1)
        touched = np.unique(np.concatenate([left, right]))
        has_enough = self._num_partners[touched] >= ENOUGH_PARTNERS
        has_enough |= (self._num_comparisons[touched] >= ENOUGH_COMPARISONS)[:, None]
        self._served[touched] = np.packbits(has_enough, axis=1, bitorder="little")[:, 0]


def _find_shared(keys: Any) -> IntArray:
    """The positions of keys that stand at another position, too; in most buckets there is one text."""
    ordered = np.sort(keys)
    places: IntArray = np.flatnonzero(_is_in(keys, np.unique(ordered[1:][ordered[1:] == ordered[:-1]])))
    return places


def _pair_neighbors(keys: Any, order: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of texts with equal keys, the nearest first; `order` sorts `keys`, and is what is paired."""
    places = np.arange(len(keys))
    for distances in DISTANCES:
        steps = []
        for distance in distances:
            places = places[places + distance < len(keys)]
            places = places[keys[places] == keys[places + distance]]
            steps.append((order[places], order[places + distance]))
        if len(steps[0][0]) == 0:
            return
        left, right = (np.concatenate(side) for side in zip(*steps, strict=True))
        yield left, right


def _is_in(values: IntArray, ascending: IntArray) -> Any:
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values


def _share_of_words(signatures: Signatures, left: IntArray, right: IntArray) -> FloatArray:
    """The estimated Jaccard similarity of the words of pairs, shape (num_pairs,)."""
    shares = np.empty(len(left))
    for start in range(0, len(left), BATCH_PAIRS):
        batch = slice(start, start + BATCH_PAIRS)
        shares[batch] = (signatures[left[batch]] == signatures[right[batch]]).mean(axis=1)
    return shares


def _premix(words: Any) -> Any:
    """What datasketch does to a 32-bit hash before it permutes it. Source: MurmurHash3's finalizer, Appleby 2011."""
    values = words ^ (words >> np.uint32(16))
    values = values * np.uint32(0x85EBCA6B)
    values = values ^ (values >> np.uint32(13))
    values = values * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))
