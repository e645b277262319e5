"""The last screen of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from finished_run import STORE, make_refs
from projects import make_classification
from tunesmith.cli.finetuning import render_summary
from tunesmith.report.summary import summarize_run


def render(**changes: Any) -> str:
    return render_summary(summarize_run("snippets", STORE, make_refs(**changes)))


def test_the_pages_and_commands_are_about_the_store_that_the_recipe_names(monkeypatch: Any) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    declined = {"register": {"aliases": ["candidate"], "consent": {"text": "It was declined by ada."}}}
    server = render_summary(summarize_run("snippets", "http://mlflow:5000", make_refs(**declined)))
    assert "\nMLflow page:   http://mlflow:5000\n" in server
    assert ": MLFLOW_TRACKING_URI=http://mlflow:5000 tunesmith promote models:/snippets/3\n" in server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    assert ": tunesmith promote models:/snippets/3\n" in render(**declined)
    assert f" ui --backend-store-uri {STORE}\n" in render()


def test_the_data_has_a_line_only_where_there_is_something_to_say() -> None:
    assert "quarantine" not in render()
    assert "Against" not in render()


def test_rows_in_quarantine_are_told_with_the_command_that_shows_them() -> None:
    quarantine = {"key": "ab" * 16, "num_rows": 2, "reasons": {"column 'label' is null": 2}}
    assert f"\n2 rows in quarantine: tunesmith data quarantine {'ab' * 16}\n" in render(
        snapshot={"quarantine": quarantine}
    )


def test_what_has_changed_in_the_data_is_told_before_the_metrics_and_many_changes_are_counted() -> None:
    warnings = [f"Against the last snapshot: gone: column 'c{number}' {'x' * 500}." for number in range(8)]
    screen = render(register={"drift_warnings": warnings})
    assert screen.index("gone: column 'c0'") < screen.index("trained ")
    assert "column 'c4'" in screen
    assert "column 'c5'" not in screen
    assert "\n3 more warnings on the page of the run\n" in screen
    assert max(map(len, screen.splitlines())) <= 200


def test_what_merging_costs_is_told_behind_the_training() -> None:
    assert "merged" not in render()
    screen = render(export={"merging": {"loss": 1.25, "original_base_loss": 1.5, "num_examples": 9}})
    assert "test loss 1.2500; into the original it would be 1.5000 (+0.2500)" in screen
    assert screen.index("trained ") < screen.index("is merged") < screen.index("on 9 test examples")


class Refusing(BaseHTTPRequestHandler):
    """A server that is well, and takes nobody's credentials."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/health") else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_that_refuses_the_credentials_has_not_gone_away(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        environ = {**os.environ, "TUNESMITH_HOME": str(tmp_path / "home"), "PREFECT_API_URL": url}
        # In a process of its own: Prefect would stay in this one, for all tests behind this.
        command = [sys.executable, "-m", "tunesmith", "run", str(make_classification(tmp_path / "project"))]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=240)
        server.shutdown()
    assert done.returncode == 4
    assert f"answers 401 Unauthorized to {url}/" in done.stderr
    assert "Set PREFECT_API_KEY" in done.stderr
