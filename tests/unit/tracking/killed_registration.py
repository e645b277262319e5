"""Registers a candidate again and again, killed with -9 after its first write to MLflow, after a later one, and so on.

One line of JSON for each: what MLflow holds after a second, undisturbed attempt. Every attempt is a fork of a process
that has imported MLflow and opened nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (imported once, for all forks)
from mlflow.tracking import MlflowClient

from tracked_candidate import TrackedCandidate
from tunesmith.store.folder import FolderStore
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.contents import describe_environment

WRITES = (
    "create_experiment", "create_run", "update_run", "log_batch", "log_inputs", "log_artifact", "log_artifacts",
    "set_tag", "create_registered_model", "create_model_version", "set_model_version_tag", "set_registered_model_alias",
    "set_registered_model_tag", "set_terminated",
)  # fmt: skip


def main(job: Path, template: Path, folder: Path, stride: int) -> None:
    """Go on until an attempt comes through before it is killed."""
    kill_after, was_killed = 1, True
    while was_killed:
        home = folder / str(kill_after)
        home.mkdir(parents=True)
        shutil.copyfile(template, home / "mlflow.db")
        candidate = TrackedCandidate.read(job)
        tracking = TrackingConfig(uri=f"sqlite:///{home / 'mlflow.db'}", experiment="sentiment")
        candidate = replace(candidate, tracking=tracking, store=FolderStore(home / "store"))
        was_killed = attempt(candidate, kill_after) == signal.SIGKILL
        attempt(candidate, None)
        print(json.dumps({"killed_after": kill_after, **look(home)}), flush=True)
        kill_after += stride


def attempt(candidate: TrackedCandidate, kill_after: int | None) -> int:
    """Register in a process of its own; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        if kill_after is not None:
            die_after(kill_after)
        candidate.register()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def die_after(num_writes: int) -> None:
    """Make this process kill itself right after its n-th write."""
    left = [num_writes]

    def counted(write):
        def call(*args, **options):
            result = write(*args, **options)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in WRITES:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))


def look(home: Path) -> dict[str, object]:
    """What MLflow's database and artifacts hold."""
    with sqlite3.connect(home / "mlflow.db") as connection:
        rows = "SELECT count(*) FROM metrics WHERE key LIKE 'train/%' OR key LIKE 'validation/%'"
        return {
            "runs": [row[0] for row in connection.execute("SELECT status FROM runs")],
            "versions": [row[0] for row in connection.execute("SELECT version FROM model_versions")],
            "aliases": connection.execute("SELECT alias, version FROM registered_model_aliases").fetchall(),
            "history": [json.loads(row[0]) for row in connection.execute("SELECT value FROM registered_model_tags")],
            "rows": connection.execute(rows).fetchone()[0],
            "told": find_told(home),
            "files": sum(path.is_file() for path in home.glob("mlartifacts/*/artifacts/model/**/*")),
        }


def find_told(home: Path) -> list[str]:
    """The files of the report in the run that are not empty, and the verdict that it names."""
    (run,) = home.glob("mlartifacts/*/artifacts")
    names = [run / "report.html", run / "README.md", *sorted((run / "errors").iterdir())]
    verdict = re.search("<title>(.*)</title>", names[0].read_text())
    return [*(path.name for path in names if path.stat().st_size), verdict[1] if verdict else ""]


if __name__ == "__main__":
    describe_environment()  # remembers its answer: once is enough for all forks
    main(*(Path(argument) for argument in sys.argv[1:4]), int(sys.argv[4]))
