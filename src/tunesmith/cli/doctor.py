"""`tunesmith doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import http.client
import os
import platform
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import click

from tunesmith.cli.output import FAILED, Output, json_option, pass_output
from tunesmith.cli.table import format_bytes, format_table
from tunesmith.home import Home
from tunesmith.store.unfinished import Unfinished, list_unfinished
from tunesmith.tracking.unrecorded import Unrecorded, list_unrecorded

TESTED = {
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "evaluate": "0.4.6",
    "fastapi": "0.150.0",
    "mlflow": "3.17.2",
    "peft": "0.21.2",
    "prefect": "3.8.8",
    "pyarrow": "25.0.1",
    "pydantic": "2.14.3",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "transformers": "5.23.0",
}
"""The versions that the tests ran with, as in constraints.txt."""
FASTAPI_BELOW = (0, 151)
"""prefect 3.8.8's server does not start with newer ones."""
DISK_FAIL_BYTES, DISK_WARN_BYTES = 1e9, 10e9
"""A small model's checkpoints and versions take hundreds of megabytes; a large one's tens of gigabytes."""
MEMORY_FAIL_BYTES, MEMORY_WARN_BYTES = 1e9, 4e9
"""torch alone takes half a gigabyte; training takes 16 bytes a weight, and activations on top."""
REACH_SECONDS = 5

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: `fail` where a run would not work, `warn` where it may not.
        found: What there is.
        advice: What to do, unless all is well.
    """

    name: str
    state: State
    found: str
    advice: str = ""


@click.command()
@json_option
@pass_output
@click.pass_context
def command(context: click.Context, output: Output) -> None:
    """Check this machine: Python, packages, torch, disk, memory, the home folder and the servers that are named.

    Candidates that MLflow does not know in full, because it was away, are listed with the command that uploads them
    while data, recipe and code are as they were; `tunesmith models forget` takes one from the list. So is work of the
    home's store that began and has not ended, with the room that it takes.
    The exit code is 4 where something fails, else 0.
    """
    home = Home.locate(os.environ, Path.cwd())
    unrecorded, unfinished = list_unrecorded(home.unrecorded_folder), list_unfinished(Path(home.store_uri))
    checks = [
        check_python(sys.version_info[:3]),
        *check_packages(find_versions()),
        *check_torch(),
        check_disk(home.folder),
        check_memory(),
        check_home(home.folder),
        check_prefect(os.environ, home),
        check_mlflow(os.environ, home),
        *check_record(unrecorded),
        *check_unfinished(unfinished, datetime.now(UTC)),
    ]
    has_failed = any(check.state == "fail" for check in checks)
    rows = [[check.state, check.name, check.found + (f"; {check.advice}" if check.advice else "")] for check in checks]
    output.show(
        {
            "ok": not has_failed,
            "checks": [asdict(check) for check in checks],
            "unrecorded": [note.model_dump(mode="json") for note in unrecorded],
            "unfinished": [
                {**asdict(work), "folder": str(work.folder), "written_at": work.written_at.isoformat()}
                for work in unfinished
            ],
        },
        format_table(["state", "what", "found"], rows),
    )
    if has_failed:
        context.exit(FAILED)


def check_python(running: tuple[int, ...]) -> Check:
    """Whether this Python is new enough."""
    found = ".".join(map(str, running)) + f" on {platform.system()} {platform.machine()}"
    if running < (3, 11):
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def find_versions() -> dict[str, str | None]:
    """The installed version of each package that matters; None where it is missing."""
    found: dict[str, str | None] = {}
    for name in TESTED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def check_packages(versions: Mapping[str, str | None]) -> Iterator[Check]:
    """Compare what is installed with what was tested: one line if all is equal, else one line a difference.

    Args:
        versions: What `find_versions` gave.
    """
    differing = {name: found for name, found in versions.items() if (found or "").split("+")[0] != TESTED[name]}
    if not differing:
        yield Check("packages", "ok", f"all {len(versions)} as tested")
    for name, found in differing.items():
        advice = f"pip install '{name}=={TESTED[name]}'"
        if found is None:
            yield Check(name, "fail", "not installed", advice)
        elif name == "fastapi" and _numbers(found) >= FASTAPI_BELOW:
            yield Check(name, "fail", f"{found}: Prefect's server does not start with it", advice)
        else:
            yield Check(name, "warn", f"{found}, tested with {TESTED[name]}", f"if something fails: {advice}")


def check_torch() -> Iterator[Check]:
    """Where torch computes, with how many threads and in which precision."""
    try:
        import torch

        from tunesmith.training.precision import choose_precision
    except (ImportError, OSError) as error:
        yield Check("torch", "fail", f"cannot be imported: {error}", f"pip install 'torch=={TESTED['torch']}'")
        return
    if torch.cuda.is_available():
        device = torch.device("cuda")
        memory = torch.cuda.get_device_properties(device).total_memory
        found = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}, {format_bytes(memory)}"
        yield Check("device", "ok", found)
    else:
        device = torch.device("cpu")
        yield Check("device", "ok", f"cpu, {torch.get_num_threads()} threads of {os.cpu_count()} processors")
    precision = choose_precision("auto", device)
    yield Check("precision", "ok", "bf16" if precision == "bf16" else "fp32; this device gains nothing from bf16")


def check_disk(folder: Path) -> Check:
    """Whether there is room for artifacts and checkpoints."""
    free = shutil.disk_usage(_nearest_existing(folder)).free
    advice = "make room, or set TUNESMITH_HOME to a folder on a larger disk"
    return _by_limits("disk", free, f"free for {folder}", DISK_FAIL_BYTES, DISK_WARN_BYTES, advice)


def check_memory() -> Check:
    """Whether there is memory to train in."""
    free = min((size for size in (_available_bytes(), _container_bytes()) if size is not None), default=None)
    if free is None:
        return Check("memory", "ok", "this system does not say how much is free")
    return _by_limits("memory", free, "available", MEMORY_FAIL_BYTES, MEMORY_WARN_BYTES, "end other programs")


def check_home(folder: Path) -> Check:
    """Whether the home can be written; it is not made here."""
    base = _nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=base):
            return Check("home", "ok", f"{folder}{'' if folder.is_dir() else ' (made by the first run)'}")
    except OSError as error:
        advice = "set TUNESMITH_HOME to a folder that you can write"
        return Check("home", "fail", f"{folder}: {base} cannot be written: {error.strerror}", advice)


def check_prefect(environ: Mapping[str, str], home: Home) -> Check:
    """Whether the Prefect server that is named answers."""
    url = environ.get("PREFECT_API_URL", "").strip()
    if not url:
        return Check("prefect", "ok", f"a server of its own for each run, kept in {home.prefect_folder}")
    return _check_server("prefect", url, "PREFECT_API_URL", "http://127.0.0.1:4200/api")


def check_mlflow(environ: Mapping[str, str], home: Home) -> Check:
    """Whether MLflow's server answers, or its file can be written."""
    uri = environ.get("MLFLOW_TRACKING_URI", "").strip() or home.tracking_uri
    if uri.startswith(("http://", "https://")):
        return _check_server("mlflow", uri, "MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    if not uri.startswith("sqlite:///"):
        return Check("mlflow", "warn", f"{_without_login(uri)}: not checked", "see that this machine reaches it")
    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
    if not os.access(_nearest_existing(folder), os.W_OK):
        return Check("mlflow", "fail", f"{uri}: {folder} cannot be written", "correct MLFLOW_TRACKING_URI")
    return Check("mlflow", "ok", uri)


def check_record(unrecorded: Sequence[Unrecorded]) -> Iterator[Check]:
    """Whether MLflow has all there is: one line a candidate of which it has not."""
    if not unrecorded:
        yield Check("record", "ok", "MLflow has everything that was trained here")
    for note in unrecorded:
        yield Check("record", "warn", f"not in {note.tracking_uri}: {note.describe()}", note.advise())


def check_unfinished(unfinished: Sequence[Unfinished], now: datetime) -> Iterator[Check]:
    """What began and has not ended: one line each."""
    for work in unfinished:
        days = (now - work.written_at).days
        since = "within a day" if days < 1 else f"{days:,} day{'s' if days > 1 else ''} ago"
        found = f"{work.stage}, {format_bytes(work.size_bytes)} in {work.folder}, written {since}"
        yield Check("unfinished", "ok", found, "its recipe, run again, goes on with it; else delete the folder")


def _check_server(name: str, url: str, variable: str, example: str) -> Check:
    shown = _without_login(url)
    start = f"start that server, or correct {variable} (such as {example}), or unset it"
    try:
        with urllib.request.urlopen(f"{shown.rstrip('/')}/health", timeout=REACH_SECONDS):
            return Check(name, "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        return Check(name, "warn", f"{shown} answers {error.code} {error.reason}", f"correct {variable}, or its login")
    except urllib.error.URLError as error:
        return Check(name, "fail", f"{shown} cannot be reached: {error.reason}", start)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Check(name, "fail", f"{shown} cannot be reached: {error}", start)


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _by_limits(name: str, size: float, what: str, fail_below: float, warn_below: float, advice: str) -> Check:
    state: State = "fail" if size < fail_below else "warn" if size < warn_below else "ok"
    return Check(name, state, f"{format_bytes(size)} {what}", "" if state == "ok" else advice)


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _container_bytes(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container may still take, by its control group; None where there is no limit.

    Files that were read a while ago are counted as used, and given up as soon as somebody needs the room.
    """
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else int(limit) - used + int(parts.get("inactive_file", 0))


def _nearest_existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _numbers(found: str) -> tuple[int, ...]:
    return tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
