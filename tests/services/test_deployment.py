"""The shipped deployment, through a real Prefect server and real workers: run, preempted, cancelled, killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from databases import copy_mlflow_database, copy_prefect_database
from killable_training import wait_for
from processes import find_processes, output_of, processes_of
from projects import make_classification
from tunesmith.recipe import Recipe
from tunesmith.tracking.client import mlflow_client

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PREFECT = str(Path(sys.executable).parent / "prefect")
LONG = "train.num_epochs=60"


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """The environment of a client of a server of our own, which has the shipped deployments."""
    folder = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environ = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "TUNESMITH_HOME": str(folder / "tunesmith"),
        "OMP_NUM_THREADS": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    copy_prefect_database(folder / "home")
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [PREFECT, "server", "start", "--port", str(port), "--no-ui"], env=environ, stdout=log, stderr=log
        )
    try:
        _wait_until_up(f"{environ['PREFECT_API_URL']}/health", server)
        prefect(environ, "work-pool", "create", "--type", "process", "local")
        prefect(environ, "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
        yield environ
    finally:
        server.terminate()
        server.wait(timeout=240)


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the Prefect server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the Prefect server did not start within two minutes")


def prefect(environ, *arguments: str) -> str:
    done = subprocess.run([PREFECT, *arguments], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(environ, path: str, body: object | None = None) -> object:
    """What the server answers; where its database is locked it says 503, and means "later"."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{environ['PREFECT_API_URL']}/{path}", data, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(1)


def flow_run_states(environ) -> list[str]:
    return [flow_run["state_name"] for flow_run in ask(environ, "flow_runs/filter", {})]


class DeployedRun:
    """A run of the shipped deployment, in a home of its own."""

    def __init__(self, environ, folder: Path, overrides: tuple[str, ...] = (LONG,)) -> None:
        self.home = folder / "home"
        self.environ = {**environ, "TUNESMITH_HOME": str(self.home)}
        copy_mlflow_database(self.home / "mlflow.db")
        self.recipe = make_classification(folder / "project")
        wanted = {"parameters": {"recipe": str(self.recipe), "overrides": overrides}, "idempotency_key": str(folder)}
        (deployment,) = ask(environ, "deployments/filter", {"flows": {"name": {"any_": ["finetune"]}}})
        created = ask(environ, f"deployments/{deployment['id']}/create_flow_run", wanted)
        self.id = created["id"]

    @property
    def state(self) -> tuple[str, int]:
        """The state's name, and how often the run has begun."""
        (flow_run,) = ask(self.environ, "flow_runs/filter", {"flow_runs": {"id": {"any_": [self.id]}}})
        return flow_run["state_name"], flow_run["run_count"]

    @property
    def history(self) -> list[str]:
        """The names of all its states so far."""
        states = ask(self.environ, f"flow_run_states/?flow_run_id={self.id}")
        return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]

    @contextmanager
    def worker(self):
        log = (self.home.parent / "worker.log").open("a")
        command = [PREFECT, "worker", "start", "--pool", "local"]
        with log, subprocess.Popen(command, env=self.environ, cwd=ROOT, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(timeout=240)
                finally:
                    process.kill()

    def wait_until_it_trains(self) -> None:
        """Until there is a checkpoint, and a process that goes on from there."""
        wait_for(lambda: find_processes(self.home, "tunesmith.training.worker"))
        started = time.time()
        wait_for(lambda: any(path.stat().st_mtime > started for path in self.checkpoints()))

    def checkpoints(self) -> list[Path]:
        return list((self.home / "store" / "work" / "train").glob("*/checkpoints/step-*/manifest.json"))

    def train_facts(self) -> dict:
        (request,) = (self.home / "store" / "requests" / "train").iterdir()
        return json.loads(request.read_bytes())["facts"]


def work_once(environ) -> None:
    command = [PREFECT, "worker", "start", "--pool", "local", "--run-once"]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_deployments_run_on_a_worker_and_share_with_a_run_by_hand(environ, tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    assert "0 5 * * *" in prefect(environ, "deployment", "inspect", "finetune/movie-reviews")
    prefect(environ, "deployment", "run", "finetune/movie-reviews", "--param", f"recipe={recipe}")
    work_once(environ)
    assert flow_run_states(environ) == ["Completed"]

    sources, target = json.dumps([str(recipe.parent / "reviews.csv")]), tmp_path / "predicted.csv"
    parameters = ("model=models:/reviews@champion", f"sources={sources}", f"target={target}")
    options = [option for parameter in parameters for option in ("--param", parameter)]
    prefect(environ, "deployment", "run", "predict/movie-reviews", *options)
    work_once(environ)
    assert flow_run_states(environ) == ["Completed"] * 2
    assert len(target.read_text().splitlines()) == 121

    recipe = make_classification(tmp_path / "elsewhere", num_epochs=1)
    command = [str(Path(sys.executable).parent / "tunesmith"), "run", str(recipe), "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert [stage["name"] for stage in stages if not stage["is_cached"]] == ["decide"]  # it is the champion now
    assert flow_run_states(environ) == ["Completed"] * 3


def test_a_preempted_run_goes_on_under_its_id_to_the_same_weights(environ, tmp_path, monkeypatch):
    run = DeployedRun(environ, tmp_path / "preempted")
    with run.worker() as worker:
        run.wait_until_it_trains()
        (flow,) = find_processes(run.home, "prefect.engine")
        os.kill(flow, signal.SIGTERM)
        wait_for(lambda: run.state == ("AwaitingRetry", 1))
        undisturbed = start_by_hand(environ, run.recipe, tmp_path / "undisturbed")
        run.wait_until_it_trains()
        assert run.state == ("Running", 2)
        worker.terminate()  # it kills the flow's process and reports nothing
        worker.wait(timeout=240)
    wait_for(lambda: run.state == ("AwaitingRetry", 2))
    wait_for(lambda: processes_of(run.home) == [])
    with run.worker():
        wait_for(lambda: run.state[0] in ("Completed", "Failed", "Crashed"))
    assert run.state == ("Completed", 3)

    stdout, stderr = output_of(undisturbed)
    assert undisturbed.returncode == 0, stderr
    facts = run.train_facts()
    assert facts["resumed_from_step"] > 0
    assert facts["weights_sha256"] == json.loads(stdout)["weights_sha256"]
    monkeypatch.setenv("TUNESMITH_HOME", str(run.home))
    assert_recorded_once(run.recipe, facts["num_steps"])


def test_a_run_that_waits_for_a_person_when_its_worker_is_stopped_waits_on_under_the_next_worker(environ, tmp_path):
    run = DeployedRun(environ, tmp_path / "asking", ("train.num_epochs=1", "gate.approval=manual"))
    with run.worker() as worker:
        wait_for(lambda: run.state[0] == "Paused")
        worker.terminate()
        worker.wait(timeout=240)
    wait_for(lambda: run.state[0] == "AwaitingRetry")
    with run.worker():
        wait_for(lambda: run.state[0] in ("Paused", "Completed", "Failed", "Crashed"))
        assert run.state[0] == "Paused"
        approve = [str(Path(sys.executable).parent / "tunesmith"), "approve", "models:/reviews/1", "--because", "good"]
        subprocess.run(approve, env=run.environ, check=True, capture_output=True, timeout=300)
        wait_for(lambda: run.state[0] in ("Completed", "Failed", "Crashed"))
    assert run.state[0] == "Completed"
    assert run.history.count("Paused") == 2


def start_by_hand(environ, recipe: Path, home: Path) -> subprocess.Popen[str]:
    copy_mlflow_database(home / "mlflow.db")
    command = [str(Path(sys.executable).parent / "tunesmith"), "run", str(recipe), "--json", "--set", LONG]
    return subprocess.Popen(
        command, env={**environ, "TUNESMITH_HOME": str(home)}, stdout=-1, stderr=-1, text=True, start_new_session=True
    )


def assert_recorded_once(recipe: Path, num_steps: int) -> None:
    """One MLflow run, finished, that has every row once."""
    tracking = Recipe.load(recipe).tracking
    with mlflow_client(tracking) as client:
        (run,) = client.search_runs([client.get_experiment_by_name(tracking.experiment).experiment_id])
        assert run.info.status == "FINISHED"
        steps = [row.step for row in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == list(range(2, num_steps + 1, 2))


def test_a_cancelled_run_and_one_whose_process_is_killed_leave_no_process(environ, tmp_path):
    cancelled = DeployedRun(environ, tmp_path / "cancelled")
    with cancelled.worker():
        cancelled.wait_until_it_trains()
        ask(environ, f"flow_runs/{cancelled.id}/set_state", {"state": {"type": "CANCELLING"}})
        wait_for(lambda: find_processes(cancelled.home, "-m tunesmith.") == [])
        wait_for(lambda: cancelled.state == ("Cancelled", 1))

    killed = DeployedRun(environ, tmp_path / "killed")
    with killed.worker():
        killed.wait_until_it_trains()
        (flow,) = find_processes(killed.home, "prefect.engine")
        os.kill(flow, signal.SIGKILL)
        wait_for(lambda: find_processes(killed.home, "-m tunesmith.") == [])
        wait_for(lambda: killed.state == ("Crashed", 1))
        assert killed.history[-2:] == ["Running", "Crashed"]  # said by the worker, which lives
    wait_for(lambda: processes_of(cancelled.home) + processes_of(killed.home) == [])
    assert (cancelled.state, killed.state) == (("Cancelled", 1), ("Crashed", 1))  # nobody took them up again
