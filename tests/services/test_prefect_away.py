"""`tunesmith run` whose Prefect server dies while it trains: the training goes on, and what it made is kept."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from databases import copy_mlflow_database, copy_prefect_database, lay_out_databases
from killable_training import wait_for
from processes import find_processes
from projects import make_classification

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

BINARIES = Path(sys.executable).parent
LONG = "--set=train.num_epochs=15"


class NamedServer:
    """A Prefect server at an address of its own, which dies and comes back."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.home = folder / "prefect"
        copy_prefect_database(self.home)
        self.url = f"http://127.0.0.1:{self.port}/api"

    @contextmanager
    def running(self):
        environ = {**os.environ, "PREFECT_HOME": str(self.home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [str(BINARIES / "prefect"), "server", "start", "--port", str(self.port), "--no-ui"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environ, start_new_session=True, **quiet) as process:
            try:
                wait_for(self._answers)
                yield
            finally:
                os.killpg(process.pid, signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except OSError:
            return False


def start(recipe: Path, home: Path, **environ: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [str(BINARIES / "tunesmith"), "run", str(recipe), "--json", LONG],
        env={**inherited, "TUNESMITH_HOME": str(home), "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_it_trains(home: Path) -> None:
    work = home / "store" / "work" / "train"
    wait_for(lambda: list(work.glob("*/checkpoints/step-*/manifest.json")))


def finish(process: subprocess.Popen[str]) -> tuple[int, dict, str]:
    stdout, stderr = process.communicate(timeout=240)
    assert all(noise not in stderr for noise in ("Traceback", "ERROR", "Error logging"))  # the library's own
    return process.returncode, json.loads(stdout), stderr


def flow_run_states(prefect_home: Path) -> list[str]:
    with closing(sqlite3.connect(prefect_home / "prefect.db")) as connection:
        return [name for (name,) in connection.execute("SELECT state_name FROM flow_run ORDER BY created")]


def test_an_embedded_server_that_is_killed_is_started_again(tmp_path):
    home = tmp_path / "home"
    lay_out_databases(home)
    process = start(make_classification(tmp_path / "project"), home)
    wait_until_it_trains(home)
    (server,) = find_processes(home, "tunesmith.cli.prefect_server")
    os.kill(server, signal.SIGKILL)
    code, _, stderr = finish(process)
    assert code == 0, stderr
    assert "the embedded Prefect server ended and is started again" in stderr
    assert flow_run_states(home / "prefect") == ["Completed"]
    assert find_processes(home, "") == []


def test_a_named_server_that_dies_for_a_while_and_one_that_dies_for_good(tmp_path):
    recipe, server = make_classification(tmp_path / "project"), NamedServer(tmp_path)
    for_a_while, for_good = tmp_path / "for_a_while", tmp_path / "for_good"
    for home in (for_a_while, for_good):
        copy_mlflow_database(home / "mlflow.db")
    with server.running():
        processes = [
            start(recipe, for_a_while, PREFECT_API_URL=server.url),
            start(recipe, for_good, PREFECT_API_URL=server.url, PREFECT_CLIENT_MAX_RETRIES="1"),
        ]
        for home in (for_a_while, for_good):
            wait_until_it_trains(home)
    code, answer, stderr = finish(processes[1])
    assert code == 4, stderr
    assert "the Prefect server" in answer["error"]["message"]
    assert "What is done is kept" in answer["error"]["message"]
    time.sleep(2)
    with server.running():
        code, _, stderr = finish(processes[0])
        assert code == 0, stderr
    assert sorted(flow_run_states(server.home)) == ["Completed", "Running"]  # nobody could say how the other one ended

    code, answer, _ = finish(start(recipe, for_good, PREFECT_API_URL=server.url))
    assert (code, "cannot be reached" in answer["error"]["message"]) == (4, True)
    code, summary, stderr = finish(start(recipe, for_good))
    assert code == 0, stderr
    assert [stage["name"] for stage in summary["stages"] if not stage["is_cached"]] == ["decide"]  # it is the champion
