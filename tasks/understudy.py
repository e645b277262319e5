"""Speaks for a flow run whose process was killed: `python -m tunesmith.tasks.understudy FLOW_RUN_ID`.

A Prefect worker that is told to stop kills the processes of its flow runs and reports nothing: their runs would be
Running for ever, or Paused where they wait for a person. This process, which costs next to nothing while it waits, then
schedules the next attempt. Where the worker lives on, it reports the crash itself, and that stands.
"""

from __future__ import annotations

import signal
import sys
import time
from uuid import UUID

PATIENCE_SECONDS = 3.0
"""A worker that lives reports a crash within a second."""


def main(flow_run_id: UUID) -> None:
    """Wait for the end of the flow's process; when it was killed, and nobody says so, schedule the next attempt."""
    for number in (signal.SIGTERM, signal.SIGINT):  # of what is told to everybody, our time comes after it
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read():
        return
    killed = time.monotonic()
    from prefect.client.orchestration import get_client  # 2 seconds, which nobody waits for until now

    from tunesmith.tasks.preemption import reschedule

    with get_client(sync_client=True) as client:
        current = client.read_flow_run(flow_run_id)
        while current.state is not None and (current.state.is_running() or current.state.is_paused()):
            if time.monotonic() > killed + PATIENCE_SECONDS:
                reschedule(client, current, "The flow's process was killed; the next attempt goes on where it stopped.")
                return
            time.sleep(0.5)
            current = client.read_flow_run(flow_run_id)


if __name__ == "__main__":
    main(UUID(sys.argv[1]))
