"""The run of a candidate while it trains."""

from __future__ import annotations

import http.server
import logging
import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from mlflow_server import MlflowServer
from tracked_candidate import ROWS
from tunesmith.tracking import run as run_module
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.run import LiveRun, close_runs
from tunesmith.tracking.unrecorded import list_unrecorded

NUM_METRICS = sum(len(row["metrics"]) for row in ROWS)


def train(candidate, rows=ROWS, status="FINISHED", flow_run_id="flow-1"):
    """What the launcher tells an observer."""
    observer = LiveRun(candidate.tracking, candidate.record, flow_run_id)
    observer.started(candidate.candidate.key, {})
    observer.rows(rows)
    observer.ended(status)


def query(tracking, text):
    with sqlite3.connect(tracking.database()) as connection:
        return connection.execute(text).fetchall()


def count_metrics(tracking):
    return query(tracking, "SELECT count(*) FROM metrics")[0][0]


def statuses(tracking):
    return [row[0] for row in query(tracking, "SELECT status FROM runs WHERE lifecycle_stage = 'active'")]


def test_training_leaves_its_rows_in_an_open_run_that_register_closes(candidates, tracking):
    first = candidates.make("first", 0.8)
    train(first)
    assert (statuses(tracking), count_metrics(tracking)) == (["RUNNING"], NUM_METRICS)
    first.register()
    assert statuses(tracking) == ["FINISHED"]
    assert query(tracking, "SELECT count(*) FROM metrics WHERE key = 'train/loss'") == [(30,)]


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_training_that_ends_early_closes_the_run_and_its_continuation_is_the_same_run(candidates, tracking, status):
    first = candidates.make("first", 0.8)
    train(first, ROWS[:20], status)
    assert statuses(tracking) == [status]
    train(first, ROWS[10:], flow_run_id="flow-2")
    assert (statuses(tracking), count_metrics(tracking)) == (["RUNNING"], NUM_METRICS)
    assert query(tracking, "SELECT value FROM tags WHERE key = 'tunesmith.flow_run_id'") == [("flow-2",)]


def test_a_row_that_was_computed_again_with_another_last_digit_is_there_once(candidates, tracking):
    first = candidates.make("first", 0.8)
    train(first, ROWS[:20], "KILLED")
    again = [{**row, "metrics": {name: value + 1e-9 for name, value in row["metrics"].items()}} for row in ROWS]
    train(first, again)
    assert count_metrics(tracking) == NUM_METRICS


def test_the_same_row_sent_by_two_processes_that_know_nothing_of_each_other_is_there_once(candidates, tracking):
    first = candidates.make("first", 0.8)
    train(first)
    with mlflow_client(tracking) as client:
        from mlflow.entities import Metric

        (run,) = client.search_runs([client.get_experiment_by_name("sentiment").experiment_id])
        row = ROWS[4]
        for name, value in row["metrics"].items():
            client.log_batch(run.info.run_id, [Metric(name, value, run.info.start_time + row["step"], row["step"])])
    assert count_metrics(tracking) == NUM_METRICS


def test_training_that_repeats_what_is_registered_leaves_the_run_finished(candidates, tracking):
    first = candidates.make("first", 0.8)
    first.register()
    train(first)
    train(first, ROWS[:3], "KILLED")
    assert statuses(tracking) == ["FINISHED"]
    assert query(tracking, "SELECT count(*) FROM metrics WHERE key = 'train/loss'") == [(30,)]


def test_a_flow_run_that_crashed_has_its_open_runs_closed_and_no_others(candidates, tracking):
    train(candidates.make("first", 0.8))
    train(candidates.make("second", 0.8), flow_run_id="flow-2")
    assert len(close_runs(tracking, "flow-1", "FAILED")) == 1
    assert sorted(statuses(tracking)) == ["FAILED", "RUNNING"]
    assert close_runs(tracking, "flow-1", "FAILED") == []


def test_a_store_that_was_never_made_has_no_runs_to_close(tmp_path):
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/none/mlflow.db", experiment="a")
    assert close_runs(tracking, "flow-1", "FAILED") == []
    assert not (tmp_path / "none").exists()


def test_a_server_that_is_away_costs_training_nothing_and_one_warning(candidates, unused_port, caplog):
    first = candidates.make("first", 0.8)
    first.tracking = TrackingConfig(uri=f"http://127.0.0.1:{unused_port}", experiment="sentiment")
    start = time.perf_counter()
    observer = LiveRun(first.tracking, first.record)
    with caplog.at_level(logging.WARNING):
        observer.started(first.candidate.key, {})
        for row in ROWS:
            observer.rows([row])
        assert time.perf_counter() - start < 0.1
        observer.ended("FINISHED")
    assert time.perf_counter() - start < 3
    (record,) = caplog.records
    assert "cannot be reached" in record.message
    assert "Training goes on" in record.message


def test_rows_that_no_server_took_are_noted_with_what_uploads_them(candidates, unused_port, tmp_path):
    first = candidates.make("first", 0.8)
    tracking = TrackingConfig(uri=f"http://ada:secret@127.0.0.1:{unused_port}", experiment="sentiment")
    record = first.record.model_copy(update={"command": "tunesmith run recipe.yaml"})
    for status in ("KILLED", "FINISHED"):
        observer = LiveRun(tracking, record, notes=tmp_path / "notes")
        observer.started(first.candidate.key, {})
        observer.rows(ROWS)
        observer.ended(status)
        assert len(list_unrecorded(tmp_path / "notes")) == (status == "FINISHED")  # what was killed tells all again
    (note,) = list_unrecorded(tmp_path / "notes")
    assert (note.num_rows, note.candidate_key) == (len(ROWS), first.candidate.key)
    assert (note.tracking_uri, note.command) == (f"http://127.0.0.1:{unused_port}", "tunesmith run recipe.yaml")


def test_a_server_that_answers_nonsense_is_borne_like_one_that_is_away(candidates, caplog, capfd):
    class Nonsense(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"experiment": 5}')

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    first = candidates.make("first", 0.8)
    with serving(Nonsense) as uri:
        first.tracking = TrackingConfig(uri=uri, experiment="sentiment")
        with caplog.at_level(logging.WARNING):
            train(first)
    assert len([record for record in caplog.records if "Training goes on" in record.message]) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_hangs_holds_up_the_end_no_longer_than_said(candidates, tmp_path, monkeypatch, caplog):
    has_ended = threading.Event()

    class Hanging(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/health":
                has_ended.wait(60)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    first = candidates.make("first", 0.8)
    monkeypatch.setitem(run_module.FLUSH_SECONDS, "FINISHED", 0.2)
    with serving(Hanging) as uri:
        first.tracking = TrackingConfig(uri=uri, experiment="sentiment")
        observer = LiveRun(first.tracking, first.record, notes=tmp_path)
        observer.started(first.candidate.key, {})
        observer.rows(ROWS)
        observer.ended("FINISHED")
        assert "did not take the last rows" in caplog.text
        assert [note.num_rows for note in list_unrecorded(tmp_path)] == [len(ROWS)]
        has_ended.set()


@contextmanager
def serving(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.services
def test_a_server_that_comes_late_gets_every_row(candidates, tmp_path):
    first = candidates.make("first", 0.8)
    server = MlflowServer(tmp_path / "server")
    first.tracking = TrackingConfig(uri=server.uri, experiment="sentiment")
    observer = LiveRun(first.tracking, first.record, notes=tmp_path / "notes")
    observer.started(first.candidate.key, {})
    observer.rows(ROWS[:10])
    server.start()
    try:
        observer.rows(ROWS[10:])
        server.wait_until_up()
        observer.ended("FINISHED")
        assert server.query("SELECT count(*) FROM metrics") == [(NUM_METRICS,)]
        assert list_unrecorded(tmp_path / "notes") == []
        ref = first.register()
        assert ref.facts["aliases"] == ["champion"]
        assert first.register().is_cached
    finally:
        server.kill()
