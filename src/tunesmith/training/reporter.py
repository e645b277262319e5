"""What the training process tells its parent while it runs, and how it learns that it has to stop."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tunesmith.training.job import Job
from tunesmith.training.spool import Row, Spool

MIN_INTERVAL_SECONDS = 0.2
"""Between two writes of the progress file: more often than a person can look, too seldom to cost anything."""

Phase = Literal["loading", "training", "validating", "saving"]


class Progress(BaseModel):
    """How far a training is."""

    model_config = ConfigDict(frozen=True)

    phase: Phase = "loading"
    pid: int = 0
    device: str = ""
    precision: str = ""
    batching: str = ""
    why_batching: str = ""
    num_parameters: int = 0
    num_trainable_parameters: int = 0
    num_absent_tokens: int = 0
    """Tokens whose embeddings are not trained, because the data does not have them."""
    step: int = 0
    num_steps: int = 0
    epoch: float = 0.0
    num_epochs: int = 0
    """0 where the steps decide, and not the epochs."""
    loss: float | None = None
    first_step: int = 0
    """The step that this attempt began at."""
    num_examples: int = 0
    """Examples that this attempt has trained on."""
    seconds: float = 0.0
    """How long this attempt has been training."""
    lowered_limit: int | None = None
    """Most tokens that go through the model at once, since the memory ran out in this attempt."""


def read_progress(path: Path) -> Progress | None:
    """The progress that was written last; None before the process has said anything."""
    try:
        return Progress.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


class Reporter:
    """Tells the parent of rows and progress."""

    def __init__(self, job: Job) -> None:
        self.spool = Spool(job.spool)
        self.progress = Progress(pid=os.getpid())
        self._path = job.progress
        self._stop = threading.Event()
        self._begun = 0.0
        self._written = 0.0

    @property
    def should_stop(self) -> bool:
        """Whether to write a checkpoint and end."""
        return self._stop.is_set()

    @property
    def seconds(self) -> float:
        """How long this attempt has been training."""
        return time.perf_counter() - self._begun

    def stop(self) -> None:
        """Ask for a checkpoint and an end; safe in a signal handler and in another thread."""
        self._stop.set()

    def begin(self, progress: Progress, spool_copy: Path | None) -> None:
        """The first step is about to be taken; the spool goes back to the rows of the checkpoint."""
        self.spool.restore(spool_copy)
        self._begun = time.perf_counter()
        self.progress = progress.model_copy(update={"pid": os.getpid()})
        self.enter("training")

    def enter(self, phase: Phase) -> None:
        """Training is doing something else from now on."""
        self._update(phase=phase)
        self._write()

    def advance(self, step: int, epoch: float, num_examples: int) -> None:
        """A step was taken."""
        total = self.progress.num_examples + num_examples
        self._update(step=step, epoch=epoch, num_examples=total, seconds=self.seconds)
        if time.perf_counter() - self._written >= MIN_INTERVAL_SECONDS:
            self._write()

    def limit_micro_batches(self, max_tokens: int) -> None:
        """The memory ran out: from now on, at most so many tokens go through the model at once."""
        self._update(lowered_limit=max_tokens)

    def log(self, row: Row) -> None:
        """A row of metrics."""
        self.spool.append(row)
        if "train/loss" in row["metrics"]:
            self._update(loss=row["metrics"]["train/loss"])

    def _update(self, **changes: object) -> None:
        self.progress = self.progress.model_copy(update=changes)

    def _write(self) -> None:
        # Not synced to the disk: after a crash nobody reads it.
        aside = self._path.with_suffix(".aside")
        aside.write_text(self.progress.model_dump_json(), encoding="utf-8")
        aside.replace(self._path)
        self._written = time.perf_counter()


class SilentReporter(Reporter):
    """Of a process that trains with others, the first of which tells everything."""

    def begin(self, progress: Progress, spool_copy: Path | None) -> None:
        """See `Reporter`."""
        self._begun = time.perf_counter()

    def enter(self, phase: Phase) -> None:
        """See `Reporter`."""

    def advance(self, step: int, epoch: float, num_examples: int) -> None:
        """See `Reporter`."""

    def log(self, row: Row) -> None:
        """See `Reporter`."""
