"""A disk that fills up under a training: told in words that do not have to be written to it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import FullDiskError
from tunesmith.store.disk import is_full, tell_free, tell_size
from tunesmith.store.sealed import read_manifest
from tunesmith.training.checkpoints import Checkpoints

EXIT_CODE = errno.ENOSPC
"""Of a training process that could not write: error.json cannot be written either."""


def explain_full(work: Path) -> FullDiskError:
    """The error that says what there is no room for, and what to do.

    Args:
        work: The work folder; what was being written in it is deleted.
    """
    shutil.rmtree(work / "aside", ignore_errors=True)
    newest, free_bytes = Checkpoints(work).newest(), shutil.disk_usage(work).free
    manifest = None if newest is None else read_manifest(newest)
    free = tell_free(work)
    if manifest is None:
        needed, after = "the first checkpoint", "training starts from the beginning"
    else:
        needed_bytes = sum(file.size_bytes for file in manifest.files.values())
        needed = f"a checkpoint of about {tell_size(needed_bytes)}"
        after = f"training goes on from the checkpoint of step {manifest.header['step']}, which is whole"
        if free_bytes > 2 * needed_bytes:
            free += ", so it is a quota or a limit on the size of files (ulimit -f)"
    return FullDiskError(
        f"{work}: the disk is full: there is no room for {needed} and the rows beside it; {free}. Make room, or keep "
        f"the store on a larger disk (store.uri, or store.cache where that is on S3); then run again: {after}."
    )


@contextmanager
def told_in_words(work: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that says what to do.

    Raises:
        FullDiskError: There was no room for what the block wrote to the work folder.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error, work):
            raise
        raise explain_full(work) from error
