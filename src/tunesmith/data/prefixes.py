"""The sha256 of a file, and of its beginnings: whoever has hashed a whole file has hashed nearly all of each beginning.

Hashing leaves marks on the way, from where it can be continued; they are believed while the file looks the same.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

BUFFER_BYTES = 1 << 18
MIN_MARK_BYTES = 4 << 20
MAX_MARKS = 64
"""A mark is some 400 bytes; a beginning is hashed again from the last mark before its end."""
MAX_FILES = 1024
"""Files whose marks a process keeps before it starts anew: about 25 MB."""


class Mark(NamedTuple):
    """The sha256 of a file up to an offset; it can be continued."""

    offset: int
    digest: hashlib._Hash


_marks: dict[tuple[int, int, int, int], list[Mark]] = {}


def hash_prefix(path: Path, end: int | None = None) -> str:
    """The sha256 of a file's bytes, as 64 hex digits.

    Args:
        path: The file.
        end: How many bytes of it, from the first; by default all.

    Raises:
        OSError: The file cannot be read.
    """
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with path.open("rb", buffering=0) as file:
        seen = os.fstat(file.fileno())
        end = seen.st_size if end is None else end
        marks = _find_marks(seen)
        offset, digest = next(mark for mark in reversed(marks) if mark.offset <= end)
        digest = digest.copy()
        file.seek(offset)
        interval = max(MIN_MARK_BYTES, seen.st_size // MAX_MARKS)
        while offset < end and (num_bytes := file.readinto(buffer[: end - offset])):
            digest.update(buffer[:num_bytes])
            offset += num_bytes
            if offset >= marks[-1].offset + interval:
                marks.append(Mark(offset, digest.copy()))
    return digest.hexdigest()


def _find_marks(seen: os.stat_result) -> list[Mark]:
    if len(_marks) >= MAX_FILES:
        _marks.clear()
    identity = seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size
    return _marks.setdefault(identity, [Mark(0, hashlib.sha256())])
