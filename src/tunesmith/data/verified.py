"""The files of artifacts in the store, each verified before it is read, and only then."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.data.chunked import ChunkedRows, RowsChunk, read_chunk
from tunesmith.data.rows import IntArray
from tunesmith.errors import DataError
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import find_file_damage, read_manifest


class Verified:
    """The files of an artifact.

    Args:
        ref: The artifact.

    Raises:
        DataError: It is not there any more.
    """

    def __init__(self, ref: Ref) -> None:
        self._ref = ref
        manifest = read_manifest(ref.folder)
        if manifest is None:
            raise self._damaged("manifest.json is missing or unreadable")
        self._files = manifest.files
        self._seen: set[str] = set()

    def open(self, name: str) -> Path:
        """A file.

        Raises:
            DataError: It is not as it was sealed.
        """
        if name not in self._seen:
            sealed = self._files.get(name)
            damage = f"{name} is missing" if sealed is None else find_file_damage(self._ref.folder, name, sealed)
            if damage is not None:
                raise self._damaged(damage)
            self._seen.add(name)
        return self._ref.folder / name

    def rows(self, name: str = "rows") -> ChunkedRows:
        """Rows in chunks; of those, nothing but the list is verified."""
        return ChunkedRows.open(self.open(f"{name}.json").parent, name)

    def read(self, chunk: RowsChunk, columns: Iterable[str] | None = None) -> pa.Table:
        """The rows of a chunk; all columns, or some."""
        return read_chunk(self.open(chunk.path.name), None if columns is None else [*columns])

    def take(self, rows: ChunkedRows, positions: IntArray) -> pa.Table:
        """The rows at some positions, in their order."""
        starts = np.cumsum([0, *(chunk.num_rows for chunk in rows.chunks)])
        for owner in np.unique(np.searchsorted(starts, positions, side="right") - 1):
            self.open(rows.chunks[owner].path.name)
        return rows.take(positions)

    def _damaged(self, damage: str) -> DataError:
        return DataError(
            f"{self._ref.kind} {self._ref.key} is damaged: {damage} ({self._ref.folder}). Run `tunesmith run` on its "
            "recipe: it sets what is damaged aside and makes it again."
        )
