"""Folders for what is being written: each goes with its writer, also with one that was killed.

The writer holds a lock on its folder, which the operating system takes back when it ends, however it does. Locks are
only trusted within one machine, as it is until it starts again: what others have left has to be old.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

OLD_SECONDS = 7 * 24 * 3600
"""What a machine that may share the store has not written to for so long, nobody there is at any more."""


@contextmanager
def open_aside(root: Path) -> Iterator[Path]:
    """A new, empty folder on a store's file system, gone at the end unless it was published.

    Args:
        root: The store's folder.
    """
    while (descriptor := _make(folder := root / "aside" / f"{_name_machine()}-{uuid.uuid4().hex}")) is None:
        pass
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def discard_leftovers(root: Path) -> None:
    """Delete what killed processes were writing to a store, unless another machine may be at it.

    Args:
        root: The store's folder.
    """
    for path in (root / "aside").glob("*"):
        if path.name.startswith(f"{_name_machine()}-") or _is_old(path):
            _discard(path)


def _make(folder: Path) -> int | None:
    """Make a folder and lock it; None where somebody took it for a leftover in the moment between the two."""
    folder.mkdir(parents=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if _lock(descriptor) is not False and folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _discard(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # its writer is done, or another process was first
    try:
        if _lock(descriptor) is not True:
            return
        log.info("store: %s was left by a process that was killed; deleted", path)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether nobody else holds the lock, and we do now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_old(path: Path) -> bool:
    """Whether something lies there that nobody has written to for long; an empty folder may wait for a training."""
    try:
        times = [part.stat().st_mtime for part in (path.rglob("*") if path.is_dir() else [path])]
    except FileNotFoundError:
        return False  # it is being written, or deleted
    return bool(times) and max(times) < time.time() - OLD_SECONDS


@cache
def _name_machine() -> str:
    """What all processes have in common that see each other's locks for sure."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return platform.node() or "unnamed"
