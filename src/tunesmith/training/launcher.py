"""Starts what trains, shows how far it is, hands its rows on, and turns its end into a result or an error."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tunesmith import errors
from tunesmith.environment import compose_training_environment
from tunesmith.errors import Preempted, TrainingError, TunesmithError
from tunesmith.modeling.out_of_memory import tells_of_no_room
from tunesmith.store.code import PACKAGE_ROOT
from tunesmith.store.sealed import find_damage, write_bytes_atomically
from tunesmith.training import disk
from tunesmith.training.checkpoints import Checkpoints, read_position, restore_quarantine
from tunesmith.training.config import TrainConfig
from tunesmith.training.job import Job
from tunesmith.training.mirroring import Mirroring
from tunesmith.training.observer import EndStatus, GuardedObserver
from tunesmith.training.progress import Display, open_display
from tunesmith.training.ranks import POLL_SECONDS, Ranks, count_cores, start_ranks
from tunesmith.training.reporter import Progress, read_progress
from tunesmith.training.spool import SpoolReader

log = logging.getLogger(__name__)

_MEMORY_ADVICE = (
    "Lower train.per_device_train_batch_size (train.gradient_accumulation_steps keeps the effective batch size), "
    "lower tokenize.max_length, or train an adapter with model.lora."
)


def launch(
    job: Job, lock: int, candidate_key: str, observer: GuardedObserver, facts: dict[str, Any], mirroring: Mirroring
) -> Path:
    """Train in a process of its own, from the newest valid checkpoint on.

    Args:
        job: What to do; its `checkpoint` is chosen here.
        lock: The descriptor of the work folder's lock, which the process inherits.
        candidate_key: The key of the train artifact.
        observer: Is told of the rows.
        facts: What the observer is told at the start.
        mirroring: Brings checkpoints to S3 meanwhile, and from there.

    Returns:
        The sealed folder with the result.

    Raises:
        Preempted: Training was stopped, and can be continued.
        UserError: What the process met, with its message.
        TrainingError: The process ended without a result.
        KeyboardInterrupt: The user interrupted; a checkpoint was written first.
    """
    checkpoint = mirroring.find_newest(Checkpoints(job.work))
    first_step = None if checkpoint is None else read_position(checkpoint).step
    if first_step is not None:
        log.info("train: continuing from step %d", first_step)
    observer.started(candidate_key, {**facts, "resumed_from_step": first_step})
    attempt = _Attempt(job.model_copy(update={"checkpoint": checkpoint}), observer, mirroring)
    status: EndStatus = "KILLED"
    try:
        if not _is_done(job):
            with _sigterm(attempt.was_told_to_stop), attempt.until_told, mirroring:
                attempt.run(lock)
        else:
            attempt.hand_on_rows()
        status = "FINISHED"
        return job.result
    except Preempted:
        raise
    except Exception:
        status = "FAILED"
        raise
    finally:
        observer.ended(status)


def _is_done(job: Job) -> bool:
    return job.result.exists() and find_damage(job.result) is None


class _Attempt:
    """One run of the training process."""

    def __init__(self, job: Job, observer: GuardedObserver, mirroring: Mirroring) -> None:
        self.job = job
        self.observer = observer
        self.mirroring = mirroring
        self.rows = SpoolReader(job.spool)
        self.was_told_to_stop = threading.Event()
        self.until_told = ExitStack()
        """What holds from when the training is stopped until its checkpoint is where it belongs."""
        self.has_said_what = False
        self.said_limit: int | None = None

    def run(self, lock: int) -> None:
        """Start the process and stay with it to its end; start it again where it had no room and could not itself."""
        ranks = self._run_once(lock)
        while (limit := self._find_limit()) is not None and not self.was_told_to_stop.is_set():
            checkpoint = Checkpoints(self.job.work).find_newest()
            _warn_of_limit(0 if checkpoint is None else read_position(checkpoint).step, limit)
            self.job = self.job.model_copy(update={"checkpoint": checkpoint, "known_limit": limit})
            self.rows = SpoolReader(self.job.spool)  # which goes back to the rows of the checkpoint
            ranks = self._run_once(lock)
        self.hand_on_rows()  # where it fails, they say why
        self._judge(ranks)

    def _run_once(self, lock: int) -> Ranks:
        self.job.progress.unlink(missing_ok=True)
        self.job.error.unlink(missing_ok=True)
        shutil.rmtree(self.job.result, ignore_errors=True)
        restore_quarantine(self.job.checkpoint, self.job.quarantine)
        path = self.job.work / "job.json"
        write_bytes_atomically(path, self.job.model_dump_json(indent=1).encode())
        with open_display() as display:
            display.show(None)
            ranks = self._start(path, lock)
            try:
                self._follow(ranks, display)
            except BaseException:
                self.until_told.enter_context(_deaf_to_sigterm())
                display.say("training: writing a checkpoint before stopping (Ctrl-C again to stop without one)")
                _stop(ranks, self.mirroring)
                self.hand_on_rows()
                raise
            finally:
                ranks.close()
        return ranks

    def _find_limit(self) -> int | None:
        """Most tokens at once to start again with, where more of them have ended the process."""
        if not self.job.error.exists():
            return None
        limit: int | None = json.loads(self.job.error.read_bytes()).get("max_tokens")
        return limit

    def hand_on_rows(self) -> None:
        """Tell the observer the rows that are new since the last time."""
        self.observer.rows(self.rows.read())

    def _start(self, path: Path, lock: int) -> Ranks:
        self.job.rendezvous.unlink(missing_ok=True)
        return start_ranks(
            # -P: the user's folder is where relative paths are, and not where modules come from.
            [sys.executable, "-P", "-m", "tunesmith.training.worker", str(path)],
            self.job.logs,
            compose_training_environment(_with_this_package(os.environ)),
            lock,
        )

    def _follow(self, ranks: Ranks, display: Display) -> None:
        asked = False
        while ranks.poll() is None:
            progress = read_progress(self.job.progress)
            display.show(progress)
            if progress is not None and progress.phase != "loading":  # until then, the spool may end in half a row
                self.hand_on_rows()
                self._say_what_is_trained(progress)
                self._say_limit(progress)
            # In a thread, Ctrl-C never arrives; the main thread's end does.
            if not asked and (self.was_told_to_stop.is_set() or not threading.main_thread().is_alive()):
                asked = True
                self.mirroring.note_stop()
                display.say("training: writing a checkpoint before stopping")
                ranks.terminate()
            ranks.wait(POLL_SECONDS)

    def _say_what_is_trained(self, progress: Progress) -> None:
        if self.has_said_what:
            return
        self.has_said_what, count = True, self.job.train.num_processes
        log.info(
            "train: on %s in %s, %s, batches %s (%s)",
            _name_devices(self.job.train, progress.device),
            progress.precision,
            _tell_weights(progress),
            progress.batching,
            progress.why_batching,
        )
        if progress.device == "cpu" and count > count_cores():
            told = "train.num_processes is %d on %d cores: the processes wait for each other. Fewer are faster."
            log.warning(told, count, count_cores())

    def _say_limit(self, progress: Progress) -> None:
        if progress.lowered_limit in (None, self.said_limit):
            return
        self.said_limit = progress.lowered_limit
        _warn_of_limit(progress.step, progress.lowered_limit)

    def _judge(self, ranks: Ranks) -> None:
        """Turn the end of the process into an error, unless it left a result."""
        exit_code = ranks.returncode
        assert exit_code is not None
        if exit_code == 0 and _is_done(self.job):
            return
        if exit_code in (Preempted.exit_code, -signal.SIGTERM):
            raise Preempted("training stopped at a checkpoint. Run the same command again to go on from there.")
        if exit_code == disk.EXIT_CODE:
            raise disk.explain_full(self.job.work)
        if self.job.error.exists():
            raise _read_error(self.job.error)
        raise TrainingError(_explain(exit_code, ranks))


def _with_this_package(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `-m` finds the very package that this is."""
    paths = [str(PACKAGE_ROOT.parent), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}


def _name_devices(train: TrainConfig, device: str) -> str:
    """Such as `cpu`, or `2 x cuda, the model shared out,`."""
    several = device if train.num_processes == 1 else f"{train.num_processes} x {device}"
    return f"{several}, the model shared out," if train.fsdp else several


def _tell_weights(progress: Progress) -> str:
    """Which of the weights are trained."""
    total, trained = progress.num_parameters, progress.num_trainable_parameters
    if progress.num_absent_tokens:
        return f"all of {total:,} weights but the embeddings of {progress.num_absent_tokens:,} tokens that never come"
    share = "all" if trained == total else f"{trained:,} ({trained / total:.2%})"
    return f"{share} of {total:,} weights"


def _warn_of_limit(step: int, limit: int) -> None:
    told = "train: out of memory after step %d; from there on at most %d tokens go through the model at once, and the "
    told += "effective batch stays what it is. To begin so: train.max_micro_batch_tokens=%d"
    log.warning(told, step, limit, limit)


def _stop(ranks: Ranks, mirroring: Mirroring) -> None:
    """Wait for the checkpoint; a second interruption does not."""
    mirroring.note_stop()
    try:
        ranks.terminate()
        ranks.wait()
    except BaseException:
        mirroring.close()
        ranks.kill()
        ranks.wait()
        raise


def _explain(exit_code: int, ranks: Ranks) -> str:
    where = f"All that it printed: {ranks.log}"
    which = "the training process" if len(ranks) == 1 else f"one of the {len(ranks)} training processes"
    if exit_code == -signal.SIGKILL:
        return (
            f"{which} was killed (SIGKILL), most often because the machine ran out of memory. "
            f"{_MEMORY_ADVICE} Running again goes on from the newest checkpoint. {where}"
        )
    printed = ranks.printed
    told = next(filter(tells_of_no_room, reversed(printed)), None)  # other lines may follow from it
    if told is not None:
        return f"{which} ran out of memory ({told}). {_MEMORY_ADVICE} {where}"
    how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
    return f"{which} ended {how}: {printed[-1] if printed else 'it printed nothing'}. {where}"


@contextmanager
def _sigterm(event: threading.Event) -> Iterator[None]:
    """Set `event` at SIGTERM, where that would otherwise end this process at once; leave other handlers alone."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda _number, _frame: event.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _deaf_to_sigterm() -> Iterator[None]:
    """Whoever stops a machine tells every process, and a parent tells its children again: once is enough."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _read_error(path: Path) -> TunesmithError:
    error = json.loads(path.read_bytes())
    kind = getattr(errors, error["type"], TrainingError)
    plain = {errors.UserError, errors.DataError, errors.ModelError, errors.CallError, TrainingError}
    return (kind if kind in plain else TrainingError)(error["message"])
