"""The sha256 of files that this process wrote or verified: nobody hashes them twice.

A file is known by its place on the disk, its size and its time; hard links to one file are one file.
"""

from __future__ import annotations

import os
from pathlib import Path

from tunesmith.store.keys import file_sha256

MAX_REMEMBERED = 200_000
"""Files that a process remembers before it starts anew: about 50 MB."""

_known: dict[tuple[int, int, int, int], str] = {}


def remember_sha256(seen: os.stat_result, sha256: str) -> None:
    """Keep the sha256 of a file that looked so."""
    if len(_known) >= MAX_REMEMBERED:
        _known.clear()
    _known[_identify(seen)] = sha256


def recall_sha256(seen: os.stat_result) -> str | None:
    """The sha256 of the file that looks so; None where it is not known."""
    return _known.get(_identify(seen))


def known_sha256(path: Path, seen: os.stat_result) -> str:
    """The sha256 of a file that looks so; computed where it is not known."""
    sha256 = recall_sha256(seen)
    if sha256 is None:
        sha256 = file_sha256(path)
        remember_sha256(seen, sha256)
    return sha256


def _identify(seen: os.stat_result) -> tuple[int, int, int, int]:
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size
