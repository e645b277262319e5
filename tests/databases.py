"""Empty databases of MLflow and Prefect: making one takes seconds, copying it none."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tunesmith.home import Home


def lay_out_databases(home: Path) -> None:
    """Make a home what it is after its first run, as far as the databases go."""
    copy_mlflow_database(home / "mlflow.db")
    copy_prefect_database(Home(home).prefect_folder)


def copy_mlflow_database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_mlflow_database(), path)


def copy_prefect_database(prefect_home: Path) -> None:
    prefect_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_prefect_database(), prefect_home / "prefect.db")


@cache
def _empty_mlflow_database() -> Path:
    program = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    path = _make_folder() / "mlflow.db"
    _run(["-c", program, f"sqlite:///{path}"], path.parent)
    return path


@cache
def _empty_prefect_database() -> Path:
    folder = _make_folder()
    _run(["-m", "prefect", "server", "database", "upgrade", "--yes"], folder)
    return folder / "prefect.db"


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="empty-databases-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def _run(arguments: list[str], folder: Path) -> None:
    """In a process of its own: neither library may stay in the one that tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    environ = {**inherited, "PREFECT_HOME": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
