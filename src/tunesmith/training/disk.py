"""A full disk: known as such whoever wrote, and told in words that do not have to be written to it."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.errors import TrainingError
from tunesmith.store.sealed import read_manifest
from tunesmith.training.checkpoints import Checkpoints

EXIT_CODE = errno.ENOSPC
"""Of a training process that could not write: error.json cannot be written either."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PROBE_BYTES = 2**20
_MEGABYTE = 10**6


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error came of a disk, a quota or a file that may not grow.

    Args:
        error: What was raised, by whichever library.
        folder: Where it was writing.
    """
    link: BaseException | None = error
    while link is not None:
        if _find_errno(link) in _FULL:
            return True
        if type(link) is RuntimeError and _refuses_to_write(folder):  # torch keeps the reason to itself
            return True
        link = link.__cause__ or link.__context__
    return False


def explain_full(work: Path) -> TrainingError:
    """The error that says what there is no room for, and what to do.

    Args:
        work: The work folder; what was being written in it is deleted.
    """
    shutil.rmtree(work / "aside", ignore_errors=True)
    newest, free_bytes = Checkpoints(work).newest(), shutil.disk_usage(work).free
    manifest = None if newest is None else read_manifest(newest)
    free = f"{free_bytes / _MEGABYTE:,.1f} MB are free"
    if manifest is None:
        needed, after = "the first checkpoint", "training starts from the beginning"
    else:
        needed_bytes = sum(file.size_bytes for file in manifest.files.values())
        needed = f"a checkpoint of about {needed_bytes / _MEGABYTE:,.1f} MB"
        after = f"training goes on from the checkpoint of step {manifest.header['step']}, which is whole"
        if free_bytes > 2 * needed_bytes:
            free += ", so it is a quota or a limit on the size of files (ulimit -f)"
    return TrainingError(
        f"{work}: the disk is full: there is no room for {needed} and the rows beside it; {free}. Make room, or keep "
        f"the store on a larger disk (store.uri, or store.cache where that is on S3); then run again: {after}."
    )


@contextmanager
def told_in_words(work: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that says what to do.

    Raises:
        TrainingError: There was no room for what the block wrote to the work folder.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error, work):
            raise
        raise explain_full(work) from error


def _find_errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
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
