"""What becomes of a flow run that has to leave its machine: it is scheduled again, and goes on where it stopped.

SIGTERM reaches the flow's process as Prefect's `TerminationSignal`, or as `Preempted` where only the training process
was told. A worker that is itself told to stop kills the flow's process without a word: then its understudy speaks.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort, TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import AwaitingRetry

from tunesmith.errors import Preempted

MAX_ATTEMPTS = 100
"""A run that is preempted this often never lives long enough to get anywhere."""
PAUSE = timedelta(seconds=20)
"""Until the next attempt: more than the 10 s that a worker looks ahead, so that a machine on its way out takes none."""

P = ParamSpec("P")
R = TypeVar("R")


def reschedule_when_preempted(run: Callable[P, R]) -> Callable[P, R]:
    """Have a flow's function, when it is told to stop, leave its run scheduled instead of failed or crashed.

    A run of a deployment is taken up again by a worker, under the same id. One that was started by hand has nobody to
    take it up, and ends with `Preempted`. A run that is being cancelled is left to Prefect.
    """

    @wraps(run)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        is_deployed = deployment.get_id() is not None
        # Until the next attempt is scheduled: this one may be killed while it asks for that.
        with _understudy(str(flow_run.get_id())) if is_deployed else nullcontext():
            try:
                return run(*args, **kwargs)
            except (Preempted, TerminationSignal) as stop:
                _ignore_further_signals()
                if not is_deployed:
                    raise _as_preempted(stop) from None
                _leave(UUID(str(flow_run.get_id())), stop)
                raise

    return attempt


def reschedule(client: SyncPrefectClient, current: FlowRun, why: str) -> datetime:
    """Schedule the next attempt of a flow run.

    Args:
        client: Prefect's client.
        current: The flow run as the server knows it.
        why: What the server's page of the run will say.

    Returns:
        When it may begin.

    Raises:
        Preempted: There were too many attempts.
    """
    if current.run_count >= MAX_ATTEMPTS:
        raise Preempted(f"preempted {current.run_count} times: it never lives long enough to get anywhere.")
    at = datetime.now(UTC) + PAUSE
    client.set_flow_run_state(current.id, AwaitingRetry(scheduled_time=at, message=why))
    return at


def _leave(flow_run_id: UUID, stop: BaseException) -> None:
    """Schedule the next attempt and end this one; a run that is being cancelled is left as it is.

    Raises:
        Abort: It is scheduled; this process has nothing left to do.
        Preempted: There were too many attempts.
    """
    with get_client(sync_client=True) as client:
        current = client.read_flow_run(flow_run_id)
        if current.state is not None and current.state.is_cancelling():
            return
        at = reschedule(client, current, f"Preempted in attempt {current.run_count}; it goes on where it stopped.")
    get_run_logger().warning(
        "Preempted in attempt %d of at most %d. It goes on where it stopped, at %s, on the worker that takes it.",
        current.run_count,
        MAX_ATTEMPTS,
        f"{at:%H:%M:%S} UTC",
    )
    raise Abort("preempted; the next attempt is scheduled") from stop


@contextmanager
def _understudy(flow_run_id: str) -> Iterator[None]:
    """Have a process beside this one that knows when this one is killed."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tunesmith.tasks.understudy", flow_run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # a worker reads our output to its end before it says how we ended
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it outlives a signal to the group
    )
    try:
        yield
    finally:
        process.communicate(b"not killed")


def _as_preempted(stop: BaseException) -> Preempted:
    if isinstance(stop, Preempted):
        return stop
    return Preempted("stopped by SIGTERM. Run the same command again: what is done is not done twice.")


def _ignore_further_signals() -> None:
    """Whoever stops a machine may tell each process of it, and a parent may tell its children again."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
