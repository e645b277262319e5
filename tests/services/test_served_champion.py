"""The champion behind `mlflow models serve`, a real server, out of a registry on another one."""

import dataclasses
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from judged_candidate import CLASSIFICATION, make_candidate
from killable_training import wait_for
from loaded_pyfunc import load_pyfunc
from mlflow_server import MlflowServer, find_port
from tiny_models import WORDS, make_bert
from tracked_candidate import TrackedCandidate
from tunesmith.errors import CallError
from tunesmith.export.export import ExportConfig, export
from tunesmith.home import Home
from tunesmith.inference.generation import Generator
from tunesmith.inference.models import find_model_folder
from tunesmith.tracking.config import TrackingConfig

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

CHAMPION = "models:/sentiment@champion"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """An MLflow server whose registry has a champion with real files."""
    folder = tmp_path_factory.mktemp("served")
    server = MlflowServer(folder / "mlflow")
    server.start()
    try:
        case = make_candidate(folder / "case", make_bert(folder / "bert", WORDS), CLASSIFICATION)
        exported = export(*case.exported, ExportConfig(), case.store)
        server.wait_until_up()
        made = TrackedCandidate.make(
            folder / "home", TrackingConfig(uri=server.uri, experiment="sentiment"), "one", 0.8
        )
        registered = dataclasses.replace(made, exported=exported).register()
        assert registered.facts["aliases"] == ["champion"]
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def served(registry, tmp_path_factory):
    """The address of the champion's server."""
    port, folder = find_port(), tmp_path_factory.mktemp("serving")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", CHAMPION, "--env-manager", "local"]
    settings = {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environ = {**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environ,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: process.poll() is not None or is_up(port), seconds=240)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def is_up(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1):
            return True
    except OSError:
        return False


def ask(address, document):
    request = urllib.request.Request(address, json.dumps(document).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_served_champion_answers_rows_in_both_forms_alike(served):
    status, answer = ask(served, {"dataframe_split": {"columns": ["review"], "data": [["good film"], ["very bad"]]}})
    assert status == 200
    assert [row["prediction"] in ("bad", "good") for row in answer["predictions"]] == [True, True]
    assert answer["predictions"][0].keys() == {"prediction", "probability", "probability_bad", "probability_good"}
    records = [{"review": "good film"}, {"review": "very bad"}]
    assert ask(served, {"dataframe_records": records}) == (200, answer)


def test_the_champion_loads_by_its_uri_and_answers_as_the_server_does(registry, served, monkeypatch):
    import mlflow
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(registry.uri)
    try:
        rows = load_pyfunc(CHAMPION).predict(pd.DataFrame({"review": ["good film"]})).to_dict("records")
    finally:
        mlflow.set_tracking_uri(None)
    assert ask(served, {"dataframe_records": [{"review": "good film"}]})[1]["predictions"] == [pytest.approx(rows[0])]


def test_chat_finds_the_champion_and_refuses_it_because_it_does_not_write(registry, tmp_path):
    home = Home.locate({"TUNESMITH_HOME": str(tmp_path)}, tmp_path)
    folder = find_model_folder(CHAMPION, "model", home, TrackingConfig(uri=registry.uri))
    with pytest.raises(CallError, match="is a model for text-classification, which does not write text"):
        Generator(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "good film"}], "missing inputs ['review']"),
        ([{"review": None}], "column 'review' holds None; it must hold text"),
        ([{"review": 7}], "review"),
    ],
)
def test_what_is_no_text_is_refused_with_a_message(served, rows, message):
    status, answer = ask(served, {"dataframe_records": rows})
    assert 400 <= status < 500
    assert message in answer
