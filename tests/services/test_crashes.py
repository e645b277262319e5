"""`tunesmith run` killed and stopped in training, and started again: the same weights, one MLflow run, no orphan."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from databases import lay_out_databases
from killable_training import wait_for
from processes import find_processes, output_of, processes_of
from projects import make_classification
from tunesmith.recipe import Recipe
from tunesmith.tracking.client import mlflow_client

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

TUNESMITH = [str(Path(sys.executable).parent / "tunesmith")]
LONG = ("--set", "train.num_epochs=8")


def start(recipe: Path, home: Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "PREFECT_HOME")}
    return subprocess.Popen(
        [*TUNESMITH, "run", str(recipe), "--json", *LONG],
        env={**environ, "TUNESMITH_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict:
    stdout, stderr = output_of(process)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    return json.loads(stdout)


def wait_for_checkpoint(home: Path) -> None:
    wait_for(lambda: list((home / "store" / "work" / "train").glob("*/checkpoints/step-*/manifest.json")))


def worker_of(home: Path) -> int:
    (pid,) = find_processes(home, "tunesmith.training.worker")
    return pid


def kill_worker(process, home):
    os.kill(worker_of(home), signal.SIGKILL)


def kill_command(process, home):
    process.kill()


def kill_tree(process, home):
    for pid in processes_of(home):
        os.kill(pid, signal.SIGKILL)


def terminate(process, home):
    """As a machine does that goes away: it tells every process."""
    for pid in processes_of(home):
        os.kill(pid, signal.SIGTERM)


def press_ctrl_c(process, home):
    os.killpg(process.pid, signal.SIGINT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The recipe, and the weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = make_classification(folder / "project")
    return recipe, finish(start(recipe, folder / "home"))


@pytest.mark.parametrize(
    ("disturb", "exit_codes"),
    [
        pytest.param(kill_worker, {4}, marks=pytest.mark.slow),
        pytest.param(kill_command, {-9}, marks=pytest.mark.slow),
        (kill_tree, {-9}),
        (terminate, {3}),
        (press_ctrl_c, {130}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(undisturbed, tmp_path, monkeypatch, disturb, exit_codes):
    recipe, expected = undisturbed
    home = tmp_path / "home"
    lay_out_databases(home)
    process = start(recipe, home)
    wait_for_checkpoint(home)
    disturb(process, home)
    _, stderr = output_of(process)
    assert process.returncode in exit_codes, stderr
    assert "Traceback" not in stderr
    assert (exit_codes != {3}) or "Run the same command again" in stderr
    wait_for(lambda: processes_of(home) == [])

    summary = finish(start(recipe, home))
    assert summary["weights_sha256"] == expected["weights_sha256"]
    assert summary["resumed_from_step"] > 0
    assert summary["metrics"] == expected["metrics"]
    assert processes_of(home) == []

    monkeypatch.setenv("TUNESMITH_HOME", str(home))
    tracking = Recipe.load(recipe).tracking
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        steps = [row.step for row in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == summary["num_steps"]
