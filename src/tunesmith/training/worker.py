"""The training process: `python -m tunesmith.training.worker JOB.json`.

Exit codes: 0 the result lies sealed in the work folder; 3 stopped at a checkpoint; 2 and 4 told in error.json;
28 the disk is full, so that nothing can be told there; any other, told by the last lines of worker.log. SIGTERM asks
for a checkpoint. It belongs to its parent: when the parent is gone, it stops. RANK says which of the processes it is
that train together; the first speaks for all.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from tunesmith.errors import OutOfMemoryError, Preempted, TunesmithError
from tunesmith.store.disk import is_full
from tunesmith.store.sealed import write_json_atomically
from tunesmith.training import disk
from tunesmith.training.job import Job
from tunesmith.training.reporter import Reporter, SilentReporter

ORPHAN_SECONDS = 7.0
"""How long a checkpoint may take after the parent's death; the next run waits for the end of it."""


def main(job_path: Path, rank: int) -> int:
    """Do a job, or one process's part of it; returns the exit code."""
    job = Job.model_validate_json(job_path.read_bytes())
    reporter = Reporter(job) if rank == 0 else SilentReporter(job)
    signal.signal(signal.SIGTERM, lambda _number, _frame: reporter.stop())
    threading.Thread(target=_follow_parent, args=(job.parent_pid, reporter), daemon=True).start()
    try:
        return _train_and_tell(job, rank, reporter)
    except Exception as error:
        if not is_full(error, job.work):
            raise
        os._exit(disk.EXIT_CODE)  # what is left to print has no place either, and would change the exit code


def _train_and_tell(job: Job, rank: int, reporter: Reporter) -> int:
    try:
        _train(job, rank, reporter)
    except Preempted:
        return Preempted.exit_code
    except TunesmithError as error:
        told = {"type": type(error).__name__, "message": str(error)}
        limit = {"max_tokens": error.max_tokens} if isinstance(error, OutOfMemoryError) else {}
        write_json_atomically(job.error, {**told, **limit})
        return error.exit_code
    return 0


def _train(job: Job, rank: int, reporter: Reporter) -> None:
    # Imported here, so that a signal that comes while torch is loading already finds its handler.
    from tunesmith.modeling.quiet import quiet_libraries
    from tunesmith.training.processes import join
    from tunesmith.training.trained import save_result

    quiet_libraries()
    reporter.enter("loading")
    # By name: the code identity of a training holds the engine that it names, and not the other.
    engine = importlib.import_module(f"tunesmith.training.{job.train.engine}")
    gc.freeze()  # Trainer looks for garbage before its first step: a second, with all that was imported
    with join(job, rank):
        trained = engine.run(job, reporter)
    if rank == 0:
        reporter.enter("saving")
        save_result(job, trained, reporter.progress)


def _follow_parent(parent_pid: int, reporter: Reporter) -> None:
    """Stop when the parent is gone: its end of standard input closes, or this process has another parent."""
    while os.getppid() == parent_pid:
        ready, _, _ = select.select([sys.stdin], [], [], 1.0)
        if ready and not os.read(sys.stdin.fileno(), 1):
            break
    reporter.stop()
    time.sleep(ORPHAN_SECONDS)
    os._exit(Preempted.exit_code)


def _exit_with(code: int) -> NoReturn:
    """End here and now: at its regular end, a process whose sharded model still has its threads would abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        _exit_with(main(Path(sys.argv[1]), int(os.environ.get("RANK", "0"))))
    except BaseException:
        traceback.print_exc()
        _exit_with(1)
