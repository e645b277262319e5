"""A project whose runs are tracked on a real MLflow server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from databases import copy_prefect_database
from killable_training import wait_for
from mlflow_server import MlflowServer
from projects import make_classification
from tunesmith.home import Home

TUNESMITH = str(Path(sys.executable).parent / "tunesmith")
LOGGING_STEPS = 2
"""Of the recipe."""


class TrackedProject:
    """A recipe, a home, and the server that `tunesmith run` is told of."""

    def __init__(self, folder: Path, num_epochs: int) -> None:
        self.home, self.server = folder / "home", MlflowServer(folder / "mlflow")
        copy_prefect_database(Home(self.home).prefect_folder)
        self.recipe = make_classification(folder / "project", num_epochs=num_epochs)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        home = {"TUNESMITH_HOME": str(self.home), "MLFLOW_TRACKING_URI": self.server.uri, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [TUNESMITH, *arguments, "--json"], env={**environ, **home}, stdout=-1, stderr=-1, text=True
        )

    def run(self) -> subprocess.Popen[str]:
        return self.start("run", str(self.recipe))

    def wait_until_it_trains(self) -> None:
        wait_for(lambda: self.step > 0, seconds=300)

    @property
    def step(self) -> int:
        paths = list((self.home / "store" / "work" / "train").glob("*/progress.json"))
        return json.loads(paths[0].read_text())["step"] if paths else 0

    def assert_recorded_once(self, summary: dict) -> None:
        """One run that is finished, with every row of the training once, at a time that follows from its step."""
        assert self.server.query("SELECT run_uuid, status FROM runs") == [(summary["mlflow_run_id"], "FINISHED")]
        ((start,),) = self.server.query("SELECT start_time FROM runs")
        rows = self.server.query("SELECT step, timestamp FROM metrics WHERE key = 'train/loss' ORDER BY step")
        steps = range(LOGGING_STEPS, summary["num_steps"] + 1, LOGGING_STEPS)
        assert rows == [(step, start + step) for step in steps]
        assert self.server.query("SELECT version FROM model_versions") == [(1,)]
        assert not list((self.home / "unrecorded").glob("*"))


def finish(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, dict, str]:
    stdout, stderr = process.communicate(timeout=seconds)
    assert "Traceback" not in stderr
    return process.returncode, json.loads(stdout), stderr
