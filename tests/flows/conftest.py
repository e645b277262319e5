"""One Prefect server for all flow tests."""

import os

import pytest

from databases import copy_mlflow_database

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="session")
def prefect_test_server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A TUNESMITH_HOME of the test's own."""
    folder = tmp_path / "home"
    copy_mlflow_database(folder / "mlflow.db")
    monkeypatch.setenv("TUNESMITH_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder
