"""Which rows of all parts stay, and in which order: what transforms decide that look at more than one row.

Nothing is moved for it: rows are known by their place, and an order is a list of places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from tunesmith.data.hashes import Hashed, Hashing, ensure_hashes
from tunesmith.data.origins import IntArray
from tunesmith.data.parts import Part, Types, describe_types, keep_rows, load_part, merge_types
from tunesmith.data.rows import HashArray, take_across
from tunesmith.store.chunks import ChunkCache


@dataclass(frozen=True)
class Selection:
    """Rows, and their order.

    Attributes:
        parts: The rows as they lie on the disk.
        order: The place over all parts of each row in turn; None where that is how they lie.
        texts: Columns whose text stays text, even where it could be read as numbers.
    """

    parts: tuple[Part, ...]
    order: IntArray | None = None
    texts: frozenset[str] = frozenset()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(part.num_rows for part in self.parts)

    @property
    def places(self) -> IntArray:
        """The place of each row in turn."""
        return np.arange(self.num_rows) if self.order is None else self.order

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column."""
        return merge_types(self.parts, self.texts)

    def hash(self, columns: Sequence[str], cache: ChunkCache, *, purpose: str, seed: int = 0) -> HashArray:
        """A hash of each row in turn, as `hash_rows` gives it."""
        types = self.types
        wanted = {name: types[name] for name in columns}
        parts = [
            Hashed(
                {"part": part.key, "source": part.source, "types": describe_types(wanted)},
                partial(_load_table, part, wanted, cache),
            )
            for part in self.parts
        ]
        hashes = ensure_hashes(parts, Hashing(tuple(columns), purpose, seed), cache)
        return hashes if self.order is None else hashes[self.order]

    def keep(self, kept: IntArray, cache: ChunkCache) -> Selection:
        """Some of the rows.

        Args:
            kept: Which of the rows in turn, ascending.
            cache: Where parts are kept.
        """
        places = np.sort(self.places[kept])
        starts = np.cumsum([0, *(part.num_rows for part in self.parts)])
        bounds = np.searchsorted(places, starts)
        parts = [
            keep_rows(part, places[low:high] - start, cache)
            for part, start, low, high in zip(self.parts, starts, bounds, bounds[1:], strict=False)
            if high > low
        ]
        order = None if self.order is None else np.searchsorted(places, self.order[kept])
        return replace(self, parts=tuple(parts), order=order)


def _load_table(part: Part, types: Types, cache: ChunkCache) -> pa.Table:
    return load_part(part, cache, types).table


class RowReader:
    """Fetches rows of a selection by their number in turn.

    Args:
        selection: The rows.
        types: The columns to give them.
        cache: Where parts are kept.
    """

    def __init__(self, selection: Selection, types: Types, cache: ChunkCache) -> None:
        self._selection, self._types, self._cache = selection, types, cache
        self._starts = np.cumsum([0, *(part.num_rows for part in selection.parts)])
        self._schema = pa.schema([*types.items()])
        self._last: tuple[int, pa.Table] | None = None
        self._kept: dict[int, pa.Table] = {}

    def take(self, numbers: IntArray) -> pa.Table:
        """The rows with these numbers: consecutive ones where they lie in order, any otherwise."""
        if self._selection.order is not None:
            sizes = (part.num_rows for part in self._selection.parts)
            return take_across(self._selection.order[numbers], sizes, self._keep, self._schema)
        start, end = int(numbers[0]), int(numbers[-1]) + 1
        first, last = np.searchsorted(self._starts, [start, end - 1], side="right") - 1
        tables = []
        for index in range(first, last + 1):
            low, high = max(start, self._starts[index]), min(end, self._starts[index + 1])
            tables.append(self._read(index).slice(low - self._starts[index], high - low))
        return pa.concat_tables(tables)

    def _read(self, index: int) -> pa.Table:
        if self._last is None or self._last[0] != index:
            self._last = index, self._load(index)
        return self._last[1]

    def _keep(self, index: int) -> pa.Table:
        """A part that is read once only: of rows in another order, those that follow each other are of any part."""
        if index not in self._kept:
            self._kept[index] = self._load(index)
        return self._kept[index]

    def _load(self, index: int) -> pa.Table:
        return _load_table(self._selection.parts[index], self._types, self._cache)
