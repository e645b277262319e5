"""Sealed folders: a manifest, written last, says what every file must be.

A folder without a valid manifest does not exist; one that does not match its manifest is damaged. Artifacts and
checkpoints are both sealed folders.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.store.hashed import known_sha256
from tunesmith.store.keys import file_sha256

MANIFEST = "manifest.json"
NUM_THREADS = 8
WRITABLE = 0o222
"""A file without these bits is shared with an earlier folder, and was synced for it."""
_BAD_SECTOR = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
"""What reading fails with where the disk, and not the reader, is at fault."""


class SealedFile(BaseModel):
    """One file of a sealed folder."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size_bytes: int


class Manifest(BaseModel):
    """What a sealed folder holds."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, SealedFile]
    header: dict[str, Any]


def seal(folder: Path, header: dict[str, Any]) -> Manifest:
    """Hash and sync every file of `folder`, then write its manifest.

    A file with several names, which an earlier folder may share, is read-only once it is synced, and not synced again.

    Args:
        folder: The folder; nobody writes to it any more.
        header: JSON values to keep beside the files' hashes.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    seen = {path: path.stat() for path in paths}
    with ThreadPoolExecutor(NUM_THREADS) as pool:  # files that are synced at once share the disk's journal
        deque(pool.map(_sync_file, (path for path in paths if seen[path].st_mode & WRITABLE)), maxlen=0)
    files = {
        path.relative_to(folder).as_posix(): SealedFile(
            sha256=known_sha256(path, seen[path]), size_bytes=seen[path].st_size
        )
        for path in paths
    }
    manifest = Manifest(files=files, header=header)
    _write_synced(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync(path)
    _sync(folder)
    return manifest


def _sync_file(path: Path) -> None:
    _sync(path)
    seen = path.stat()
    if seen.st_nlink > 1:  # nobody writes to a file with several names
        path.chmod(seen.st_mode & ~WRITABLE)


def publish(aside: Path, final: Path) -> bool:
    """Make a sealed folder visible under its final name, in one step.

    Returns:
        False when another writer was first; its folder stands, and ours stays where it is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        return False
    _sync(final.parent)
    return True


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None where there is none that can be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    except OSError as error:
        if error.errno not in _BAD_SECTOR:
            raise
        return None


def find_damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in words; None when every byte is as sealed."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is missing or unreadable"
    damage = (find_file_damage(folder, name, sealed) for name, sealed in manifest.files.items())
    return next((found for found in damage if found is not None), None)


def find_file_damage(folder: Path, name: str, sealed: SealedFile) -> str | None:
    """What is wrong with one file of a sealed folder, in words; None when every byte is as sealed."""
    path = folder / name
    try:
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != sealed.size_bytes:
            return f"{name} has {path.stat().st_size} bytes, sealed with {sealed.size_bytes}"
        if file_sha256(path) != sealed.sha256:
            return f"{name} does not match its sha256"
    except OSError as error:
        if error.errno not in _BAD_SECTOR:
            raise
        return f"{name} cannot be read ({error.strerror})"
    return None


def write_json_atomically(path: Path, value: Any) -> None:
    """Replace a small JSON file in one step: a reader sees the old text or the new, never half of it."""
    write_bytes_atomically(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, after its bytes are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    _write_synced(aside, content)
    aside.replace(path)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
