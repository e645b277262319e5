"""Work of a store that began and has not ended: what it holds on disk, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Unfinished:
    """A work folder with something in it.

    Attributes:
        stage: Which stage's it is.
        folder: Where it lies.
        size_bytes: What its files take.
        written_at: When the youngest of them was written.
    """

    stage: str
    folder: Path
    size_bytes: int
    written_at: datetime


def list_unfinished(store: Path) -> list[Unfinished]:
    """The work folders of a store on disk, those that were written last at the end.

    Work that goes on now is among them, and its files may come and go meanwhile.

    Args:
        store: The store's folder; there may be none yet.
    """
    found = [_measure(folder) for folder in store.glob("work/*/*") if folder.is_dir()]
    return sorted((work for work in found if work is not None), key=lambda work: work.written_at)


def _measure(folder: Path) -> Unfinished | None:
    size_bytes, written = 0, 0.0
    for path in folder.rglob("*"):
        try:
            stat = path.lstat()
        except OSError:  # gone meanwhile, or not for this user to see
            continue
        if path.is_file() and stat.st_size:
            size_bytes, written = size_bytes + stat.st_size, max(written, stat.st_mtime)
    if not size_bytes:
        return None  # nothing but its lock
    return Unfinished(folder.parent.name, folder, size_bytes, datetime.fromtimestamp(written, UTC))
