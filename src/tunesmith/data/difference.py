"""What came, went or changed between two snapshots: by the hashes of their rows, and without the chunks both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.chunked import ChunkedRows, RowsChunk
from tunesmith.data.rows import HashArray, IntArray, hash_rows, number_equals
from tunesmith.data.verified import Verified
from tunesmith.store.chunks import ChunkCache

BUCKET_ROWS = 2_000_000
"""Rows that are compared at a time: a quarter of a gigabyte. Which rows those are, the hashes of their keys say."""

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Side:
    """One of the snapshots.

    Attributes:
        rows: Its rows.
        files: Its files.
    """

    rows: ChunkedRows
    files: Verified


@dataclass(frozen=True)
class Columns:
    """How the columns differ.

    Attributes:
        common: Those that both have, sorted; rows are compared by these.
        came: Those of the later one alone.
        went: Those of the earlier one alone.
        retyped: Name -> types before and now; the values are compared as text.
    """

    common: tuple[str, ...]
    came: tuple[str, ...]
    went: tuple[str, ...]
    retyped: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Difference:
    """What came, went or changed.

    Attributes:
        columns: How the columns differ.
        num_came: Rows of the later snapshot that no row of the earlier one is equal or paired to.
        num_went: The same of the earlier one.
        num_changed: Pairs of rows with equal values in the key columns and others elsewhere.
        num_same: Rows that both have, each as often as both have it.
        is_reordered: Whether both have the same rows, in another order.
        came: Positions of the first that came, in the later snapshot.
        went: Positions of the first that went, in the earlier one.
        changed: Positions of the first that changed: in the earlier one, in the later one; shape (num, 2).
    """

    columns: Columns
    num_came: int
    num_went: int
    num_changed: int
    num_same: int
    is_reordered: bool
    came: IntArray
    went: IntArray
    changed: IntArray


def compare(before: Side, now: Side, key: Sequence[str], cache: ChunkCache, *, limit: int) -> Difference:
    """Compare two snapshots; equal rows count as often as they occur.

    Args:
        before: The earlier one.
        now: The later one.
        key: The columns that tell which rows are one another's versions; both snapshots have them.
        cache: Where hashes of rows are kept.
        limit: How many positions of each sort to tell.
    """
    columns = compare_columns(before.rows, now.rows)
    chunks = _differing_chunks(before.rows, now.rows)
    lone = _find_lone_rows((before, now), chunks, columns.common, cache)
    num_buckets = _count_buckets(sum(map(np.count_nonzero, lone)))

    def hash_keys(number: int, start: int, chunk: RowsChunk) -> _Hashed:
        side = (before, now)[number]
        places = np.flatnonzero(lone[number][start : start + chunk.num_rows])
        if num_buckets > 1:  # each bucket needs them again
            return _Hashed(_hash(side, chunk, key, cache, "tunesmith diff")[places], start + places)
        keys = side.files.read(chunk, key).take(pa.array(places)) if len(places) else side.rows.schema.empty_table()
        return _Hashed(hash_rows(keys, key, purpose="tunesmith diff"), start + places)

    counts = np.zeros(3, dtype=np.int64)
    found = [np.zeros((0, 2), dtype=np.int64)] * 3
    for bucket in range(num_buckets):
        rows = [_gather(number, chunks[number], hash_keys, bucket, num_buckets) for number in (0, 1)]
        for sort, pairs in enumerate(_match(*rows)):
            counts[sort] += len(pairs)
            found[sort] = _first(np.concatenate([found[sort], pairs]), limit)
    went, came, changed = map(int, counts)
    is_reordered = not (went or came or changed) and before.rows.digest != now.rows.digest and _equal_columns(columns)
    return Difference(
        columns, came, went, changed, before.rows.num_rows - went - changed, is_reordered,
        came=found[1][:, 1], went=found[0][:, 0], changed=found[2],
    )  # fmt: skip


def compare_columns(before: ChunkedRows, now: ChunkedRows) -> Columns:
    """How the columns of two snapshots differ."""
    old, new = ({field.name: str(field.type) for field in rows.schema} for rows in (before, now))
    common = sorted(old.keys() & new.keys())
    return Columns(
        common=tuple(common),
        came=tuple(sorted(new.keys() - old.keys())),
        went=tuple(sorted(old.keys() - new.keys())),
        retyped={name: (old[name], new[name]) for name in common if old[name] != new[name]},
    )


@dataclass(frozen=True)
class _Hashed:
    """Some rows of a snapshot.

    Attributes:
        hashes: A hash of each.
        positions: Where each is in the snapshot, ascending.
    """

    hashes: HashArray
    positions: IntArray

    def keep(self, kept: BoolArray) -> _Hashed:
        return _Hashed(self.hashes[kept], self.positions[kept])


_Placed = list[tuple[int, RowsChunk]]
"""Chunks, each with the position of its first row."""

_HashChunk = Callable[[int, int, RowsChunk], _Hashed]
"""0 for before and 1 for now, the position of a chunk's first row, and the chunk -> its rows that are of interest."""


def _differing_chunks(before: ChunkedRows, now: ChunkedRows) -> tuple[_Placed, _Placed]:
    """The chunks that one of the two has oftener than the other; what both have is in no difference."""
    old, new = (Counter(chunk.key for chunk in rows.chunks) for rows in (before, now))
    both = old & new
    return _without(before, both), _without(now, both)


def _without(rows: ChunkedRows, skipped: Counter[str]) -> _Placed:
    left, start = Counter(skipped), 0
    kept = []
    for chunk in rows.chunks:
        if left[chunk.key]:
            left[chunk.key] -= 1
        else:
            kept.append((start, chunk))
        start += chunk.num_rows
    return kept


def _find_lone_rows(
    sides: tuple[Side, Side], chunks: tuple[_Placed, _Placed], columns: Sequence[str], cache: ChunkCache
) -> tuple[BoolArray, BoolArray]:
    """Which rows of each side have no equal one on the other."""

    def hash_chunk(number: int, start: int, chunk: RowsChunk) -> _Hashed:
        hashes = _hash(sides[number], chunk, columns, cache, "tunesmith row")
        return _Hashed(hashes, start + np.arange(chunk.num_rows))

    lone = np.zeros(sides[0].rows.num_rows, dtype=bool), np.zeros(sides[1].rows.num_rows, dtype=bool)
    num_buckets = _count_buckets(sum(chunk.num_rows for placed in chunks for _, chunk in placed))
    for bucket in range(num_buckets):
        rows = [_gather(number, chunks[number], hash_chunk, bucket, num_buckets) for number in (0, 1)]
        for mask, own, is_lone in zip(lone, rows, _unpaired(rows[0].hashes, rows[1].hashes), strict=True):
            mask[own.positions[is_lone]] = True
    return lone


def _hash(side: Side, chunk: RowsChunk, columns: Sequence[str], cache: ChunkCache, purpose: str) -> HashArray:
    side.files.open(chunk.path.name)  # what is kept under the chunk's key is a hash of its true rows
    return replace(side.rows, chunks=(chunk,)).hash(columns, cache, purpose=purpose)


def _count_buckets(num_rows: int) -> int:
    return max(1, -(-num_rows // BUCKET_ROWS))


def _gather(number: int, chunks: _Placed, hash_chunk: _HashChunk, bucket: int, num_buckets: int) -> _Hashed:
    """The rows of one bucket."""
    parts = [_Hashed(np.zeros((0, 2), dtype=np.uint64), np.zeros(0, dtype=np.int64))]
    for start, chunk in chunks:
        part = hash_chunk(number, start, chunk)
        hashes = part.hashes.astype(np.uint64)
        parts.append(_Hashed(hashes, part.positions).keep(hashes[:, 0] % num_buckets == bucket))
    hashes = np.concatenate([part.hashes for part in parts])
    return _Hashed(hashes, np.concatenate([part.positions for part in parts]))


def _match(before: _Hashed, now: _Hashed) -> Iterator[IntArray]:
    """The rows that went, came and changed: three times positions before and now, shape (num, 2); -1 is none."""
    is_lone, is_lone_now = _unpaired(before.hashes, now.hashes)
    went, came = before.positions[is_lone], now.positions[is_lone_now]
    yield np.stack([went, np.full(len(went), -1)], axis=1)
    yield np.stack([np.full(len(came), -1), came], axis=1)
    # The n-th of equal keys is paired with the n-th, so both sides have equally many of each, in their order.
    left, right = before.keep(~is_lone), now.keep(~is_lone_now)
    yield np.stack([left.positions[_order(left.hashes)], right.positions[_order(right.hashes)]], axis=1)


def _unpaired(before: HashArray, now: HashArray) -> tuple[BoolArray, BoolArray]:
    """Which hashes are not on the other side too: the n-th equal one of a side is paired with the n-th of the other."""
    both = np.concatenate([_numbered(before), _numbered(now)])
    order = np.lexsort(both.T)
    ordered = both[order]
    is_next_equal = np.all(ordered[1:] == ordered[:-1], axis=1)
    alone = np.ones(len(both), dtype=bool)
    alone[order[1:][is_next_equal]] = False
    alone[order[:-1][is_next_equal]] = False
    return alone[: len(before)], alone[len(before) :]


def _numbered(hashes: HashArray) -> HashArray:
    """Hashes, and how many equal ones come before each; shape (num_rows, 3)."""
    return np.column_stack([hashes, number_equals(hashes).astype(np.uint64)])


def _order(hashes: HashArray) -> IntArray:
    """The rows by their hash; equal ones stay in their order."""
    return np.lexsort((hashes[:, 1], hashes[:, 0]))


def _first(pairs: IntArray, limit: int) -> IntArray:
    """The pairs that come first: as the rows now are ordered, and for those that went, as they were."""
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    return pairs[order[:limit]]


def _equal_columns(columns: Columns) -> bool:
    return not (columns.came or columns.went or columns.retyped)
