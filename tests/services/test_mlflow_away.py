"""`tunesmith run` with a real MLflow server that is away, hangs or comes late: training goes on, nothing is lost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killable_training import wait_for
from mlflow_server import MlflowServer
from processes import find_processes
from projects import make_classification

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

TUNESMITH = str(Path(sys.executable).parent / "tunesmith")
LOGGING_STEPS = 2
"""Of the recipe."""


class Project:
    """A recipe whose runs are tracked on a server."""

    def __init__(self, folder: Path, num_epochs: int) -> None:
        self.home, self.server = folder / "home", MlflowServer(folder / "mlflow")
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
        wait_for(lambda: self.step > 0)

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


def finish(process: subprocess.Popen[str]) -> tuple[int, dict, str]:
    stdout, stderr = process.communicate(timeout=240)
    assert "Traceback" not in stderr
    return process.returncode, json.loads(stdout), stderr


def test_a_server_that_hangs_and_one_that_comes_late_hold_up_no_training(tmp_path):
    project = Project(tmp_path, num_epochs=100)
    try:
        process = project.run()
        project.wait_until_it_trains()  # with nobody at the address
        project.server.start()
        project.server.wait_until_up()
        wait_for(lambda: project.server.query("SELECT * FROM sqlite_master WHERE name = 'metrics'"))
        wait_for(lambda: project.server.query("SELECT count(*) FROM metrics")[0][0] > 0 or process.poll() is not None)
        before = project.step
        project.server.hang()
        wait_for(lambda: project.step > before or not find_processes(project.home, "tunesmith.training.worker"))
        time.sleep(12)  # longer than the end of training waits
        project.server.go_on()
        code, summary, stderr = finish(process)
        assert code == 0, stderr
        assert "Training goes on" in stderr
        project.assert_recorded_once(summary)
    finally:
        project.server.kill()


def test_a_server_that_never_comes_leaves_a_candidate_and_the_command_that_uploads_it(tmp_path):
    project = Project(tmp_path, num_epochs=4)
    try:
        code, answer, _ = finish(project.run())
        assert code == 4
        message = answer["error"]["message"]
        assert "cannot be reached" in message
        (request,) = (project.home / "store" / "requests" / "train").iterdir()
        candidate = json.loads(request.read_text())
        metrics = project.home / "store" / "artifacts" / "train" / candidate["key"] / "metrics.jsonl"
        num_rows = metrics.read_text().count("\n")
        command = f"tunesmith run {project.recipe}"
        assert f"candidate {candidate['key'][:8]} of reviews: {num_rows} rows of metrics" in message
        assert message.endswith(f"To upload it: {command}")

        project.server.start()
        _, answer, _ = finish(project.start("doctor"))
        (waiting,) = answer["unrecorded"]
        assert (waiting["num_rows"], waiting["command"]) == (num_rows, command)
        assert waiting["num_files"] > 0
        assert [check["state"] for check in answer["checks"] if check["name"] == "record"] == ["warn"]

        project.server.wait_until_up()
        code, summary, stderr = finish(project.run())
        assert code == 0, stderr
        computed = [stage["name"] for stage in summary["stages"] if not stage["is_cached"]]
        assert computed == ["decide", "register"]
        project.assert_recorded_once(summary)
        _, answer, _ = finish(project.start("doctor"))
        assert answer["unrecorded"] == []
    finally:
        project.server.kill()
