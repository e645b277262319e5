"""Copies of objects on S3 that are too many for the disk: a file is there when it is opened, and may go afterwards.

<folder>/<key>/<name>          the copy, while there is room for it
<folder>/<key>/copied.json     what it holds: sha256, size, time; it stays, and its own time tells of the last use
<folder>/<key>/lock            held by the process that copies it; others wait, and find the copy
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tunesmith.data.files import Remote, SourceFile
from tunesmith.errors import DataError
from tunesmith.store.s3 import S3Client, S3Config, S3Object
from tunesmith.store.sealed import write_json_atomically

log = logging.getLogger(__name__)

NOTE, LOCK = "copied.json", "lock"
ABANDONED_SECONDS = 3600.0
"""After so long without a byte, half a copy belongs to nobody any more."""
ATTEMPTS = 5
"""How often a copy that another process took away in the same moment is fetched."""


def find_remote(file: SourceFile, remote: Remote, client: S3Client) -> SourceFile:
    """A file that lies on S3, with what it holds; fetched once to find that out.

    Raises:
        DataError: It is larger than the room for copies.
        UserError: It is gone or changed since it was found, or the server refuses us.
    """
    note = file.path.with_name(NOTE)
    with _held(file):
        if not note.exists():
            _fetch(file, remote, client, "")
    held = json.loads(note.read_bytes())
    return replace(file, **held, remote=remote)


@contextmanager
def open_file(file: SourceFile) -> Iterator[BinaryIO]:
    """The bytes of a file as they lie on the disk; one on S3 is fetched first where its copy has gone.

    Raises:
        DataError: What is there now is not what was found.
        UserError: The server refuses us.
    """
    for _ in range(ATTEMPTS if file.remote is not None else 0):
        _ensure_copy(file)
        try:
            raw = file.path.open("rb")
        except FileNotFoundError:
            continue
        with raw:
            yield raw
        return
    with file.path.open("rb") as raw:
        yield raw


def _ensure_copy(file: SourceFile) -> None:
    assert file.remote is not None
    assert file.sha256 is not None
    if not _is_as_copied(file):
        with _held(file):
            _replace_copy(file, file.remote, file.sha256)
    file.path.with_name(NOTE).touch()


def _replace_copy(file: SourceFile, remote: Remote, sha256: str) -> None:
    if _is_as_copied(file):  # another process, which was waited for, has made it
        return
    if file.path.exists():
        log.warning("stream: the copy of %s is not as it was made; it is fetched again", file.place)
        file.path.unlink(missing_ok=True)
    _fetch(file, remote, S3Client(S3Config(**remote.s3)), sha256)


@contextmanager
def _held(file: SourceFile) -> Iterator[None]:
    """Wait for whoever copies the same object, and keep others from it as long as the block lasts."""
    path = file.path.with_name(LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_as_copied(file: SourceFile) -> bool:
    try:
        seen = file.path.stat()
    except FileNotFoundError:
        return False
    return (seen.st_size, seen.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def _fetch(file: SourceFile, remote: Remote, client: S3Client, sha256: str) -> None:
    _make_room(file, remote)
    log.info("stream: copying %s, %s bytes", file.place, f"{remote.size_bytes:,}")
    aside = file.path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        found = S3Object(remote.uri, remote.etag, remote.size_bytes, remote.version)
        sha256 = client.download(found, aside, sha256)
        seen = aside.stat()
        mtime_ns = file.mtime_ns or seen.st_mtime_ns
        os.utime(aside, ns=(time.time_ns(), mtime_ns))  # a copy that comes again is not taken for a change
        held = {"sha256": sha256, "size_bytes": seen.st_size, "mtime_ns": mtime_ns}
        write_json_atomically(file.path.with_name(NOTE), held)
        aside.replace(file.path)
    finally:
        aside.unlink(missing_ok=True)


def _make_room(file: SourceFile, remote: Remote) -> None:
    """Take copies away, the one that was used longest ago first, until there is room for one more."""
    if remote.size_bytes > remote.room_bytes:
        raise DataError(
            f"{file.place}: has {remote.size_bytes:,} bytes, and data.streaming.max_copied_bytes leaves room for "
            f"{remote.room_bytes:,}. Raise it, or cut the object in smaller ones."
        )
    copies = [path for path in file.path.parent.parent.glob("*/*") if path.name not in (NOTE, LOCK)]
    sizes = {path: _find_size(path) for path in copies}
    left = remote.room_bytes - remote.size_bytes - sum(sizes.values())
    for path in sorted(sizes, key=_last_used):
        if left >= 0:
            return
        if _is_being_made(path):
            continue
        path.unlink(missing_ok=True)
        left += sizes[path]


def _find_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process took it away
        return 0


def _last_used(path: Path) -> float:
    note = path.with_name(NOTE)
    return note.stat().st_mtime if note.exists() else 0.0


def _is_being_made(path: Path) -> bool:
    try:
        return path.suffix == ".part" and time.time() - path.stat().st_mtime < ABANDONED_SECONDS
    except FileNotFoundError:
        return True
