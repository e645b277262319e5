"""Opening MLflow's store."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from full_disk import limit_files
from tunesmith.errors import FullDiskError, TunesmithError
from tunesmith.tracking.client import mlflow_client, settle
from tunesmith.tracking.config import TrackingConfig


def test_four_processes_that_create_one_database_at_once_all_succeed_and_say_nothing(tmp_path):
    script = Path(__file__).with_name("open_at_once.py")
    answer = subprocess.run(
        [sys.executable, script, tmp_path / "new" / "mlflow.db"], capture_output=True, text=True, timeout=200
    )
    assert answer.stderr == ""
    assert json.loads(answer.stdout) == {"exit_codes": [0, 0, 0, 0], "experiments": 1, "runs": 1}
    assert answer.returncode == 0


def test_what_mlflow_refuses_is_an_error_of_ours_with_the_store_and_the_reason(tracking):
    with (
        pytest.raises(TunesmithError, match=r"MLflow at sqlite:.*mlflow\.db: Run with id=none"),
        mlflow_client(tracking) as client,
    ):
        client.get_run("none")


def test_an_artifact_that_finds_no_room_is_an_error_of_ours_with_the_place_and_what_to_do(tracking, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(8_000_000))
    with mlflow_client(tracking) as client:
        run_id = client.create_run(client.create_experiment("large", str(tmp_path / "artifacts"))).info.run_id
    try:
        limit_files(4_000_000)
        with (
            pytest.raises(FullDiskError, match=rf"^{tracking.database().parent}: the disk is full; .* Make room"),
            mlflow_client(tracking) as client,
        ):
            client.log_artifact(run_id, str(weights))
    finally:
        limit_files(resource.RLIM_INFINITY)


def test_a_store_that_cannot_be_opened_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/file/mlflow.db", experiment="a")
    with pytest.raises(TunesmithError, match="cannot be opened"), mlflow_client(tracking):
        pass


def test_a_config_that_no_recipe_filled_in_is_an_error_and_not_a_folder_in_the_working_directory():
    with pytest.raises(TunesmithError, match=r"tracking\.uri is empty"), mlflow_client(TrackingConfig()):
        pass


def test_a_write_that_is_refused_is_done_again_and_one_that_nobody_answers_is_not(tracking, unused_port, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = MlflowClient(f"http://127.0.0.1:{unused_port}")
    for write, num_attempts in (
        (lambda: MlflowClient(tracking.uri).get_run("none"), 3),
        (nobody.search_experiments, 1),
    ):
        attempts = []
        with pytest.raises(MlflowException):
            settle(lambda write=write, attempts=attempts: attempts.append(write) or write())
        assert len(attempts) == num_attempts


def test_mlflow_logs_nothing_to_the_screen(tracking, capfd):
    with mlflow_client(tracking):
        logging.getLogger("mlflow.store.db.utils").error("Detected something.")
        logging.getLogger("alembic.runtime").info("Running upgrade.")
    assert capfd.readouterr() == ("", "")


def test_a_database_whose_creation_was_killed_is_created_again(tmp_path):
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="a")
    answer = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_MIGRATION, tracking.uri], capture_output=True, timeout=60
    )
    assert (answer.returncode, answer.stderr) == (-9, b"")
    with mlflow_client(tracking) as client:
        assert client.search_experiments() != []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


KILLED_IN_A_MIGRATION = """
import os, signal, sys
from alembic.runtime.migration import HeadMaintainer
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig

note_step, num_steps = HeadMaintainer.update_to_step, 0

def kill_before_the_step_is_noted(*arguments):
    global num_steps
    num_steps += 1
    if num_steps == 65:
        os.kill(os.getpid(), signal.SIGKILL)
    note_step(*arguments)

HeadMaintainer.update_to_step = kill_before_the_step_is_noted
with mlflow_client(TrackingConfig(uri=sys.argv[1], experiment="a")):
    pass
"""
