"""The processes that train together, seen from their parent: started, watched and ended as one.

Not with torchrun, though each finds the variables that torchrun would set. Seen on torch 2.13: whatever its processes
end with, torchrun ends with 1; after `--shutdown_timeout`, it kills them in the middle of a checkpoint; and when it is
killed itself, they stay behind.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tunesmith.errors import Preempted, TrainingError, UserError
from tunesmith.training import disk

POLL_SECONDS = 0.1

GRACE_SECONDS = 5.0
"""What is left to the others when one has failed: they cannot go on without it, and see that themselves or wait."""

REGULAR_ENDS = (0, Preempted.exit_code)
TOLD_ENDS = (UserError.exit_code, TrainingError.exit_code, disk.EXIT_CODE)
"""Exit codes of a process that has said what went wrong."""


class Ranks:
    """Processes that train together, or one that trains alone.

    Args:
        processes: The running processes, in the order of their ranks; their standard inputs are pipes.
        logs: What each of them prints, behind what earlier ones have.
        starts: Where that begins in each log, in bytes.
    """

    def __init__(
        self, processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path], starts: Sequence[int]
    ) -> None:
        self._processes, self._logs, self._starts = processes, logs, starts
        self._kill_at: float | None = None
        self.returncode: int | None = None
        self.failed_rank = 0

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def log(self) -> Path:
        """What the process printed that failed first, behind what earlier ones have."""
        return self._logs[self.failed_rank]

    @property
    def printed(self) -> list[str]:
        """The lines that this process itself printed, without empty ones."""
        printed = self.log.read_bytes()[self._starts[self.failed_rank] :].decode(errors="replace")
        return [line.strip() for line in printed.splitlines() if line.strip()]

    def poll(self) -> int | None:
        """The exit code when all of them have ended: that of the first to fail; None before."""
        codes = [process.poll() for process in self._processes]
        failed = [rank for rank, code in enumerate(codes) if code is not None and code not in REGULAR_ENDS]
        if failed and self._kill_at is None:
            self.failed_rank = min(failed, key=lambda rank: self._find_order(rank, codes[rank]))
            self._kill_at = time.monotonic() + GRACE_SECONDS
        if None not in codes:
            self.returncode = codes[self.failed_rank] if failed else max(code for code in codes if code is not None)
        elif self._kill_at is not None and time.monotonic() > self._kill_at:
            self.kill()
        return self.returncode

    def wait(self, seconds: float | None = None) -> None:
        """Wait until all have ended, or so long at most."""
        end = None if seconds is None else time.monotonic() + seconds
        while self.poll() is None and (end is None or time.monotonic() < end):
            running = next(process for process in self._processes if process.returncode is None)
            with suppress(subprocess.TimeoutExpired):
                running.wait(POLL_SECONDS)

    def terminate(self) -> None:
        """Ask for a checkpoint and an end."""
        for process in self._processes:
            process.terminate()

    def kill(self) -> None:
        """End them at once."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """Close the pipes, as our own end would."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()

    def _find_order(self, rank: int, code: int | None) -> tuple[int, float]:
        """Where several have failed since they were last looked at: a cause comes before what follows from it."""
        assert code is not None
        kind = 0 if code < 0 else 1 if code in TOLD_ENDS else 2
        return kind, self._logs[rank].stat().st_mtime


def start_ranks(command: Sequence[str], logs: Sequence[Path], env: Mapping[str, str], lock: int) -> Ranks:
    """Start a process for each log.

    Args:
        command: The command line, the same for all.
        logs: Where each of them prints to.
        env: Their environment, but for what makes them a group.
        lock: A descriptor that all of them inherit.
    """
    processes = list[subprocess.Popen[bytes]]()
    starts = [log.stat().st_size if log.exists() else 0 for log in logs]
    try:
        for rank, log in enumerate(logs):
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # never written to: its end tells the process that we are gone
                    stdout=output,
                    stderr=output,
                    env=_find_env(rank, len(logs), env),
                    start_new_session=True,  # Ctrl-C reaches us alone
                    pass_fds=(lock,),
                )
            processes.append(process)
    except BaseException:
        Ranks(processes, logs, starts).kill()
        raise
    return Ranks(processes, logs, starts)


def _find_env(rank: int, num_processes: int, env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process; alone, it must not take those of a group that we ourselves may be in."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    rest = {name: value for name, value in env.items() if name not in ranks}
    if num_processes == 1:
        return rest
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    defaults = {
        # Each would take all cores.
        "OMP_NUM_THREADS": str(max(1, count_cores() // num_processes)),
        # They are all on this machine, and talk to nobody else.
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }
    return {**defaults, **rest, **{name: str(value) for name, value in ranks.items()}}


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
