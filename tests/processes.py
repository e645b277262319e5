"""The processes that a test started, however they came to be: their environment names its home."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path


def processes_of(home: Path) -> list[int]:
    """The ids of the processes of a TUNESMITH_HOME."""
    return find_processes(home, "")


def find_processes(home: Path, *words: str) -> list[int]:
    """Those that have one of the words in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_of_home = f"TUNESMITH_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if is_of_home and any(word in command for word in words):
            found.append(int(folder.name))
    return found


def output_of(process: subprocess.Popen[str], seconds: int = 300) -> tuple[str, str]:
    """What a command with a session of its own has written to stdout and stderr when it has ended, which it must.

    A Prefect server on a busy disk refuses for a while, and its client then waits up to a minute between its attempts.
    """
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it did not end in {seconds} seconds: {process.communicate()[1]}") from None
