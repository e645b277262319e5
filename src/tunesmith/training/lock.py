"""The lock of a work folder: one training of a candidate at a time, on this machine."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """Hold a folder's lock, waiting for whoever holds it.

    Yields:
        The descriptor of the lock. A process that inherits it holds the lock too, until it ends.
    """
    descriptor = _try_to_lock(folder)
    if descriptor is None:
        log.warning("train: another process is training this candidate; waiting for it to end (%s)", folder)
    while descriptor is None:
        time.sleep(POLL_SECONDS)
        descriptor = _try_to_lock(folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold_if_free(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, unless somebody else does: says which."""
    descriptor = _try_to_lock(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _try_to_lock(folder: Path) -> int | None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:  # the folder was deleted since the line before
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)  # busy, or the lock of a folder that is gone
    return None
