"""Beside a training, its checkpoints go to S3; the training process knows nothing of it, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import Self

from tunesmith.errors import TunesmithError
from tunesmith.training.checkpoints import Checkpoints, read_position
from tunesmith.training.mirror import CheckpointMirror

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""Before the server is tried again, beyond what the client's own patience bore."""
LAST_RETRY_SECONDS = 0.5
"""The same, when the attempt is over and the grace period runs."""
END_SECONDS = 10.0
"""What a thread that was told to end may take: it may be hashing a large file."""


class Mirroring:
    """Brings the newest checkpoint to S3, again and again, in a thread.

    Where the attempt ends without a result, it goes on until the newest is there, or the grace period is over.

    Args:
        mirror: The checkpoints here and there; None where the store is a folder, and then nothing happens.
    """

    def __init__(self, mirror: CheckpointMirror | None) -> None:
        self._mirror = mirror
        self._thread = threading.Thread(target=self._run, name="mirroring", daemon=True)
        self._is_last = threading.Event()
        self._is_closed = threading.Event()
        self._is_away = False
        self._stopped: float | None = None

    def find_newest(self, checkpoints: Checkpoints) -> Path | None:
        """The newest valid checkpoint, brought here where another machine left a newer one than there is here."""
        here = checkpoints.find_newest()
        if self._mirror is None:
            return here
        try:
            return self._mirror.fetch_newer(-1 if here is None else read_position(here).step) or here
        except TunesmithError as error:
            log.warning("train: whether another machine left a newer checkpoint is not known: %s", error)
            return here

    def note_stop(self) -> None:
        """The attempt was told to stop: the grace period runs."""
        self._stopped = self._stopped or time.monotonic()

    def close(self) -> None:
        """End at once, for good."""
        self._is_closed.set()
        if self._mirror is None:
            return
        self._is_last.set()
        self._mirror.folders.client.close()
        self._thread.join(END_SECONDS)

    def __enter__(self) -> Self:
        if self._mirror is not None:
            self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._mirror is not None and error is not None and not self._is_closed.is_set():
                self._finish(self._mirror)
        finally:
            self.close()

    def _finish(self, mirror: CheckpointMirror) -> None:
        place, grace_seconds = mirror.folders.uri, mirror.folders.grace_seconds
        begun = self._stopped or time.monotonic()
        if not mirror.is_current:
            log.info("train: bringing the newest checkpoint to %s, for at most %g s", place, grace_seconds)
        self._is_last.set()
        self._thread.join(max(0.0, begun + grace_seconds - time.monotonic()))
        if self._thread.is_alive():
            log.warning(
                "train: the newest checkpoint did not get to %s within store.grace_seconds (%g): another machine would "
                "go on from an older one",
                place, grace_seconds,
            )  # fmt: skip
        elif mirror.newest_seen is not None:
            log.info("train: checkpoint %s is in %s", mirror.newest_seen.name, place)

    def _run(self) -> None:
        assert self._mirror is not None
        while True:
            is_last = self._is_last.is_set()
            is_there = self._try(self._mirror)
            if self._is_closed.is_set() or (is_last and is_there):
                return
            if is_last:
                self._is_closed.wait(LAST_RETRY_SECONDS)
            else:
                self._is_last.wait(POLL_SECONDS if is_there else RETRY_SECONDS)

    def _try(self, mirror: CheckpointMirror) -> bool:
        """Whether the newest checkpoint is there now."""
        try:
            mirror.upload_newest()
        except CancelledError:
            return False
        except Exception as error:  # whatever S3 does, hours of training are worth more
            if not self._is_away and not self._is_closed.is_set():
                log.warning(
                    "train: checkpoints stay on this machine for now: %s: %s. Training goes on; the newest is brought "
                    "there as soon as that is possible",
                    type(error).__name__, error,
                )  # fmt: skip
            self._is_away = True
            return False
        if self._is_away:
            log.info("train: checkpoints go to %s again", mirror.folders.uri)
        self._is_away = False
        return True
