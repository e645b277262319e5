"""The register stage, on a real MLflow store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from huggingface_hub import ModelCard

from tracked_candidate import DIGEST, ROWS
from tunesmith.errors import TunesmithError
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.contents import find_report_uri
from tunesmith.tracking.history import roll_back
from tunesmith.tracking.register import derive_register
from tunesmith.tracking.registry import find_champion, find_version, list_models
from tunesmith.tracking.version_files import resolve_model

TOLD = [
    "report.html", "README.md", "classes.csv", "confusions.csv", "errors.json", "flips.csv", "highest_losses.csv",
    "sentiment version 1: PROMOTE",
]  # fmt: skip
"""What the run of a first candidate has of the report."""
TESTS = Path(__file__).parents[2]


def run_script(name, *arguments):
    command = [sys.executable, TESTS / "unit" / "tracking" / name, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=280, env=environment)


def runs_of(tracking):
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def metric_rows(tracking):
    with sqlite3.connect(tracking.database()) as connection:
        return connection.execute("SELECT key, step, value FROM metrics ORDER BY key, step").fetchall()


def test_a_registered_candidate_is_a_finished_run_and_a_champion_version(candidates, tracking):
    first = candidates.make("first", 0.8)
    ref = first.register()
    (run,) = runs_of(tracking)
    assert run.info.status == "FINISHED"
    assert ref.facts["mlflow_run_id"] == run.info.run_id
    assert (ref.facts["version"], ref.facts["aliases"], ref.facts["model_uri"]) == (
        1,
        ["champion"],
        "models:/sentiment/1",
    )
    champion = find_champion(first.registry, tracking)
    assert champion.candidate_key == first.candidate.key
    assert (champion.primary_metric, champion.value, champion.data_digest) == ("accuracy", 0.8, DIGEST)


def test_the_run_holds_parameters_metrics_dataset_files_and_the_model(candidates, tracking):
    first = candidates.make("first", 0.8)
    first.register(flow_run_id="flow-1")
    (run,) = runs_of(tracking)
    assert run.data.params == {"train.num_epochs": "1", "data.files": '["a.csv"]'}
    assert run.data.metrics["test/accuracy"] == 0.8
    assert run.data.metrics["baseline/accuracy"] == 0.5
    assert run.data.metrics["validation/loss"] == 0.5
    assert run.data.tags["tunesmith.data_digest"] == DIGEST
    assert run.data.tags["tunesmith.flow_run_id"] == "flow-1"
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == DIGEST[:36]
    assert json.loads(dataset.dataset.source)["sha256"] == DIGEST
    with mlflow_client(tracking) as client:
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert names >= {
        "recipe.yaml", "environment.json", "decision", "loss.png", "model", "report.html", "README.md", "errors",
    }  # fmt: skip


def test_the_report_is_where_its_address_says_and_shows_the_flips_against_the_champion(candidates, tracking):
    candidates.make("first", 0.7).register()
    ref = candidates.make("better", 0.9).register()
    page = Path(url2pathname(urlsplit(ref.facts["report_uri"]).path)).read_text()
    assert page == (ref.folder / "report.html").read_text()
    assert "sentiment version 2" in page
    assert "20 rows fixed, 0 broken" in page
    assert "<bdi>text 70</bdi>" in page
    assert ModelCard((ref.folder / "README.md").read_text()).data.pipeline_tag == "text-classification"


def test_a_champion_that_is_judged_again_keeps_the_report_that_made_it_one(candidates, tracking):
    first = candidates.make("first", 0.8)
    ref = first.register()
    page = (ref.folder / "report.html").read_text()
    shutil.rmtree(ref.folder)
    again = first.register()
    assert not again.is_cached
    assert first.decide().facts["verdict"] == "HOLD"
    assert Path(url2pathname(urlsplit(again.facts["report_uri"]).path)).read_text() == page


def test_on_a_server_the_report_is_on_its_page_of_the_run():
    run = SimpleNamespace(info=SimpleNamespace(run_id="r", experiment_id="1", artifact_uri="mlflow-artifacts:/1/r"))
    uri = find_report_uri(TrackingConfig(uri="http://me:secret@host:5000/", experiment="e"), run)
    assert uri.endswith("host:5000/#/experiments/1/runs/r/artifacts/report.html")
    assert "secret" not in uri


def test_artifacts_lie_beside_the_database_and_not_in_the_working_directory(
    candidates, tracking, tmp_path, monkeypatch
):
    working_directory = tmp_path / "elsewhere"
    working_directory.mkdir()
    monkeypatch.chdir(working_directory)
    first = candidates.make("first", 0.8)
    first.register()
    assert list(working_directory.iterdir()) == []
    folder = resolve_model("models:/sentiment@champion", tracking, tmp_path / "downloads")
    assert folder.is_relative_to(tmp_path / "home" / "mlartifacts")
    assert (folder / "deep" / "model.safetensors").read_bytes() == b"weights" * 1000


def test_registering_twice_leaves_every_row_the_run_and_the_version_once(candidates, tracking):
    first = candidates.make("first", 0.8)
    ref = first.register()
    before = metric_rows(tracking)
    shutil.rmtree(ref.folder)
    again = first.register()
    assert not again.is_cached
    assert again.facts == ref.facts
    assert metric_rows(tracking) == before
    assert len([row for row in before if row[0] == "train/loss"]) == len(ROWS) - 1
    assert len(runs_of(tracking)) == len(list_models(tracking)) == 1


def test_a_model_that_is_there_is_not_uploaded_again_and_a_lost_one_is(candidates, tracking, tmp_path):
    first = candidates.make("first", 0.8)
    ref = first.register()
    weights = resolve_model("models:/sentiment/1", tracking, tmp_path) / "deep" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    shutil.rmtree(ref.folder)
    ref = first.register()
    assert weights.stat().st_mtime_ns == written
    shutil.rmtree(ref.folder)
    weights.unlink()
    first.register()
    assert weights.exists()


def test_a_better_candidate_becomes_the_champion_and_a_worse_one_does_not(candidates, tracking):
    first = candidates.make("first", 0.8)
    first.register()
    assert candidates.make("worse", 0.7).register().facts["aliases"] == ["candidate"]
    assert find_champion(first.registry, tracking).version == 1
    assert candidates.make("better", 0.9).register().facts["aliases"] == ["champion"]
    assert find_champion(first.registry, tracking).version == 3
    assert [run.info.status for run in runs_of(tracking)] == ["FINISHED"] * 3


def test_a_rollback_stays_when_the_registration_is_repeated(candidates, tracking):
    candidates.make("first", 0.8).register()
    better = candidates.make("better", 0.9)
    ref = better.register()
    with mlflow_client(tracking) as client:
        client.set_registered_model_alias("sentiment", "champion", "1")
    shutil.rmtree(ref.folder)
    assert better.register().facts["aliases"] == []
    assert find_champion(better.registry, tracking).version == 1


def test_a_champion_that_came_after_the_decision_is_not_displaced(candidates, tracking, caplog):
    late, quick = candidates.make("late", 0.8), candidates.make("quick", 0.9)
    decision = late.decide()
    assert decision.facts["verdict"] == "PROMOTE"
    quick.register()
    with caplog.at_level(logging.WARNING):
        assert late.register(decision=decision).facts["is_late"]
    assert find_champion(late.registry, tracking).candidate_key == quick.candidate.key
    assert "stays the champion" in caplog.text
    assert late.decide().facts["verdict"] == "REJECT"
    assert not late.register().facts["is_late"]
    assert [version.verdict for version in list_models(tracking)] == ["REJECT", "PROMOTE"]


def test_a_decision_that_the_store_has_lost_is_read_from_the_version(candidates, tracking):
    candidates.make("best", 0.9).register()
    first = candidates.make("first", 0.8)
    before = first.decide()
    first.register()
    shutil.rmtree(first.store.root / "artifacts" / "decide")
    shutil.rmtree(first.store.root / "requests" / "decide")
    after = first.decide()
    assert (after.key, after.facts) == (before.key, before.facts)


def test_an_evaluation_that_changed_is_the_newest_value_of_the_same_version(candidates, tracking):
    candidates.make("first", 0.8).register()
    changed = candidates.make("first", 0.75)
    changed.report = changed.report.model_copy(update={"key": "1" * 32})
    changed.register()
    (version,) = list_models(tracking)
    (run,) = runs_of(tracking)
    assert (version.value, version.aliases) == (0.75, ("champion",))
    assert run.data.metrics["test/accuracy"] == 0.75


def test_a_parameter_that_changed_on_a_resumed_run_is_no_error(candidates, tracking):
    ref = candidates.make("first", 0.8).register()
    shutil.rmtree(ref.folder)
    changed = candidates.make("first", 0.8, train={"num_epochs": 2, "save_steps": 5, "note": "x" * 7000})
    changed.register()
    (run,) = runs_of(tracking)
    assert run.data.params["train.num_epochs"] == "1"
    assert run.data.params["train.save_steps"] == "5"
    assert len(run.data.params["train.note"]) == 6000
    assert run.data.params["train.note"].endswith("(cut, 7000 characters; whole in recipe.yaml)")


def test_labels_and_columns_of_any_name_are_parameters_and_metrics(candidates, tracking):
    weights = {"C++": 2.0, "R&D": 1.0, "x" * 300: 1.0}
    first = candidates.make("first", 0.8, train={"class_weights": weights})
    first.report.facts["metrics"]["cost_R&D"] = 3.0
    with (first.candidate.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 30, "metrics": {"validation/cost_R&D": 4.0}}) + "\n")
    first.register()
    (run,) = runs_of(tracking)
    assert run.data.params["train.class_weights.C_x2B__x2B_"] == "2.0"
    assert sum(name.startswith("train.class_weights.xxx") for name in run.data.params) == 1
    assert (run.data.metrics["test/cost_R_x26_D"], run.data.metrics["validation/cost_R_x26_D"]) == (3.0, 4.0)
    (version,) = list_models(tracking)
    assert version.metrics["cost_R&D"] == 3.0


def test_a_version_keeps_what_is_too_long_for_a_tag_in_parts_and_the_parts_of_its_last_word_only(candidates, tracking):
    first = candidates.make("first", 0.8)
    costs = {f"cost_{number}_{'x' * 200}": float(number) for number in range(500)}
    first.report = first.report.model_copy(update={"facts": {**first.report.facts, "metrics": {"accuracy": 0.8}}})
    first.report.facts["metrics"].update(costs)
    first.register()
    assert list_models(tracking)[0].metrics == {"accuracy": 0.8, **costs}
    tags = version_tags(tracking)
    assert max(map(len, tags.values())) <= 15_000  # MLflow takes 100,000, MySQL 65,535 bytes
    assert sum(tag.startswith("tunesmith.metrics.") for tag in tags) > 5
    changed = first.report.facts | {"metrics": {"accuracy": 0.75}}
    first.report = first.report.model_copy(update={"key": "1" * 32, "facts": changed})
    first.register()
    assert list_models(tracking)[0].metrics == {"accuracy": 0.75}
    assert not any(tag.startswith("tunesmith.metrics.") for tag in version_tags(tracking))


def version_tags(tracking):
    with mlflow_client(tracking) as client:
        return client.get_model_version("sentiment", "1").tags


def test_a_version_that_was_deleted_is_registered_again(candidates, tracking):
    first = candidates.make("first", 0.8)
    assert not first.register().is_cached
    assert first.register().is_cached
    with mlflow_client(tracking) as client:
        client.delete_model_version("sentiment", "1")
    again = first.register()
    assert not again.is_cached
    assert again.reason == "what it stands for is gone"
    assert find_version(first.candidate.key, first.registry, tracking) is not None


def test_a_run_that_was_deleted_is_restored_with_its_files(candidates, tracking, tmp_path):
    first = candidates.make("first", 0.8)
    run_id = first.register().facts["mlflow_run_id"]
    shutil.rmtree(resolve_model("models:/sentiment/1", tracking, tmp_path))
    with mlflow_client(tracking) as client:
        client.delete_run(run_id)
    again = first.register()
    assert (again.facts["mlflow_run_id"], again.facts["version"]) == (run_id, 1)
    assert [run.info.run_id for run in runs_of(tracking)] == [run_id]
    assert (resolve_model("models:/sentiment@champion", tracking, tmp_path) / "config.json").exists()


def test_a_version_whose_run_was_purged_is_replaced_and_a_rollback_goes_past_it(candidates, tracking, tmp_path):
    candidates.make("first", 0.7).register()
    second = candidates.make("second", 0.8)
    purge(tracking, second.register().facts["mlflow_run_id"])
    before = find_champion(second.registry, tracking)
    again = second.register()
    assert (again.facts["version"], again.facts["aliases"]) == (3, ["champion"])
    champion, _ = list_models(tracking)
    assert (champion.promoted_by, champion.decision, champion.value) == (before.promoted_by, before.decision, 0.8)
    assert (resolve_model("models:/sentiment@champion", tracking, tmp_path) / "config.json").exists()
    assert [version.version for version in list_models(tracking)] == [3, 1]
    assert second.register().is_cached
    assert roll_back("sentiment", "", tracking).version == 1


def purge(tracking, run_id):
    """What `mlflow gc` does to a run that was deleted."""
    with mlflow_client(tracking) as client:
        folder = Path(url2pathname(urlsplit(client.get_run(run_id).info.artifact_uri).path))
        client.delete_run(run_id)
        client._tracking_client.store._hard_delete_run(run_id)
    shutil.rmtree(folder)


def test_what_is_registered_is_confirmed_without_importing_mlflow_in_a_fresh_process(candidates):
    first = candidates.make("first", 0.8)
    first.register()
    job = first.store.root / "job.json"
    job.write_text(json.dumps(describe(first)))
    answer = run_script("confirm_process.py", job)
    assert answer.stdout.split() == ["cached", "mlflow=False"]


def test_a_dataset_that_another_process_writes_at_the_same_moment_is_no_error(candidates, tracking, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    log_inputs, calls = MlflowClient.log_inputs, []

    def lose_the_first_race(client, run_id, datasets):
        calls.append(run_id)
        if len(calls) == 1:
            raise MlflowException("UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest")
        log_inputs(client, run_id, datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", lose_the_first_race)
    candidates.make("first", 0.8).register()
    (run,) = runs_of(tracking)
    assert len(run.inputs.dataset_inputs) == 1


def test_a_server_that_is_away_is_an_error_and_never_a_second_registration(candidates, unused_port):
    first = candidates.make("first", 0.8)
    away = TrackingConfig(uri=f"http://127.0.0.1:{unused_port}", experiment="sentiment")
    decision, ref = first.decide(), first.register()
    derivation = derive_register(
        first.candidate,
        first.report,
        decision,
        first.exported,
        first.snapshot,
        first.splits,
        first.record,
        first.registry,
        away,
    )
    start = time.perf_counter()
    with pytest.raises(TunesmithError, match=rf"127\.0\.0\.1:{unused_port} cannot be reached") as caught:
        derivation.confirm(ref)
    assert caught.value.exit_code == 4
    assert time.perf_counter() - start < 2


def test_a_password_in_the_uri_is_in_no_key_and_no_message(candidates, unused_port):
    first = candidates.make("first", 0.8)
    secret = TrackingConfig(uri=f"http://me:secret@127.0.0.1:{unused_port}", experiment="sentiment")
    decision = first.decide()
    first.tracking = secret
    with pytest.raises(TunesmithError) as caught:
        first.decide()
    assert "secret" not in str(caught.value)
    ref = first.snapshot
    derivation = derive_register(ref, ref, decision, ref, ref, ref, first.record, first.registry, secret)
    assert "secret" not in json.dumps(derivation.ingredients)


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_and_started_again_ends_with_one_run_and_one_version(candidates, tracking, tmp_path, stride):
    first = candidates.make("first", 0.8)
    job = tmp_path / "job.json"
    job.write_text(json.dumps(describe(first)))
    answer = run_script("killed_registration.py", job, tracking.database(), tmp_path / "killed", stride)
    assert answer.stderr == ""
    outcomes = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(outcomes) > 14 / stride
    rows = sum(len(row["metrics"]) for row in ROWS)
    for outcome in outcomes:
        expected = {
            "runs": ["FINISHED"], "versions": [1], "aliases": [["champion", 1]], "rows": rows, "files": 2, "told": TOLD,
        }  # fmt: skip
        assert {name: outcome[name] for name in expected} == expected, outcome
        (change,) = outcome["history"]
        assert (change["version"], change["before"], change["is_done"]) == (1, None, True), outcome


def describe(candidate):
    """A candidate as JSON, for another process; see `read_candidate` in the scripts."""
    names = ("candidate", "report", "exported", "snapshot", "splits")
    refs = {name: getattr(candidate, name).model_dump() for name in names}
    return {
        "root": str(candidate.store.root),
        "tracking": candidate.tracking.model_dump(),
        "record": candidate.record.model_dump(),
        "refs": refs,
    }
