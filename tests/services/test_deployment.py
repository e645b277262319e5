"""The shipped deployment, through a real Prefect server and a real worker."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from projects import make_classification

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PREFECT = str(Path(sys.executable).parent / "prefect")


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """The environment of a client of a server of our own."""
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
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [PREFECT, "server", "start", "--port", str(port), "--no-ui"], env=environ, stdout=log, stderr=log
        )
    try:
        _wait_until_up(f"{environ['PREFECT_API_URL']}/health", server)
        yield environ
    finally:
        server.terminate()
        server.wait(timeout=30)


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


def flow_run_states(environ) -> list[str]:
    request = urllib.request.Request(
        f"{environ['PREFECT_API_URL']}/flow_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [flow_run["state_name"] for flow_run in json.load(answer)]


def test_the_shipped_deployment_runs_on_a_worker(environ, tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    prefect(environ, "work-pool", "create", "--type", "process", "local")
    prefect(environ, "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    assert "0 5 * * *" in prefect(environ, "deployment", "inspect", "finetune/movie-reviews")
    prefect(environ, "deployment", "run", "finetune/movie-reviews", "--param", f"recipe={recipe}")
    worker = subprocess.run(
        [PREFECT, "worker", "start", "--pool", "local", "--run-once"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert worker.returncode == 0, worker.stderr
    assert flow_run_states(environ).count("Completed") == 1, worker.stdout + worker.stderr


def test_a_run_on_the_named_server_finds_what_the_worker_computed(environ, tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    num_before = flow_run_states(environ).count("Completed")
    command = [str(Path(sys.executable).parent / "tunesmith"), "run", str(recipe), "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(stage["is_cached"] for stage in json.loads(done.stdout)["stages"])
    assert flow_run_states(environ).count("Completed") == num_before + 1
