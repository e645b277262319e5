"""The spool: rows of metrics, one JSON line each, appended by the training process and followed by its parent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.store.keys import canonical_json
from tunesmith.store.sealed import write_bytes_atomically

Row = Mapping[str, Any]
"""`step`, `epoch` (how many were done, as a fraction) and `metrics` by name."""


class Spool:
    """The writing end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def restore(self, source: Path | None) -> None:
        """Go back to the rows of a checkpoint's copy; without one, to none."""
        write_bytes_atomically(self.path, b"" if source is None else source.read_bytes())

    def append(self, row: Row) -> None:
        """Add a row, visible to the reader at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(canonical_json(row) + "\n")


class SpoolReader:
    """The reading end: gives each whole line once, also while the spool is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Row]:
        """The rows that were added since the last call; half a line waits for its rest."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
