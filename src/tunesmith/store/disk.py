"""A disk without room, or a folder that cannot be written: known as such whoever wrote, and told in words."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.errors import FullDiskError, StoreError, TunesmithError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
_PROBE_BYTES = 2**20
_MEGABYTE = 10**6


@contextmanager
def told_in_words(folder: Path) -> Iterator[None]:
    """Say what to do where a folder has no room for what the block writes, or cannot be written.

    Raises:
        FullDiskError: There is no room.
        StoreError: The folder cannot be written.
    """
    try:
        yield
    except Exception as error:
        told = put_in_words(error, folder)
        if told is error:
            raise
        raise told from error


def put_in_words(error: Exception, folder: Path) -> Exception:
    """The error that says what to do, where another one came of a full disk or a folder that cannot be written.

    Args:
        error: What was raised, by whichever library; itself where it came of something else, or says so already.
        folder: What was being written.
    """
    if isinstance(error, TunesmithError):
        return error
    refused = _find_refused(error, folder)
    if refused is not None:
        place = _find_place(refused) or folder
        return FullDiskError(
            f"{place}: the disk is full; {tell_free(place)}. Make room there, or move what lies there to a larger disk "
            "(store.uri, or store.cache where that is on S3; TUNESMITH_HOME; TMPDIR). Then run again: what is done is "
            "not done twice."
        )
    if isinstance(error, OSError) and _is_unwritable(error, folder):
        return StoreError(
            f"{folder} cannot be written ({error.strerror}: {_find_place(error) or folder}). Name a folder that can: "
            "store.uri in the recipe (store.cache where that is on S3), or TUNESMITH_HOME."
        )
    return error


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error came of a disk, a quota or a file that may not grow.

    Args:
        error: What was raised, by whichever library.
        folder: Where it was writing.
    """
    return _find_refused(error, folder) is not None


def tell_free(place: Path) -> str:
    """How much room there is around a place, which need not exist."""
    folder = next(parent for parent in (place, *place.absolute().parents) if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / _MEGABYTE:,.1f} MB are free"


def tell_size(num_bytes: int) -> str:
    """A size in the same unit."""
    return f"{num_bytes / _MEGABYTE:,.1f} MB"


def _find_refused(error: BaseException, folder: Path) -> BaseException | None:
    """The first error in a chain that says that there was no room."""
    link: BaseException | None = error
    while link is not None:
        if _find_errno(link) in _FULL:
            return link
        if type(link) is RuntimeError and _refuses_to_write(folder):  # torch keeps the reason to itself
            return link
        link = link.__cause__ or link.__context__
    return None


def _find_place(error: BaseException) -> Path | None:
    """The file that could not be written, where the operating system was asked for it by its name."""
    named = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    return Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else None


def _is_unwritable(error: OSError, folder: Path) -> bool:
    place, folder = _find_place(error), folder.absolute()
    if place is None or not (place.is_relative_to(folder) or folder.is_relative_to(place)):
        return False
    return error.errno in _UNWRITABLE or not folder.exists()


def _find_errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, sqlite3.Error):
        return errno.ENOSPC if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL else None
    from_rust = re.search(r"\(os error (\d+)\)", str(error))
    return None if from_rust is None else int(from_rust[1])


def _refuses_to_write(folder: Path) -> bool:
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno in _FULL
    finally:
        with suppress(OSError):
            probe.unlink()
    return False
