"""The processes that a test started, however they came to be: their environment names its home."""

from __future__ import annotations

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
