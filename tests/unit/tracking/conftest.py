"""A candidate's artifacts as the earlier stages leave them, and an MLflow database that is there already."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tracked_candidate import TrackedCandidate
from tunesmith.environment import MLFLOW_ENVIRONMENT
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig


@pytest.fixture(scope="session", autouse=True)
def _quiet_mlflow():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in MLFLOW_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def template_database(tmp_path_factory) -> Path:
    """An empty MLflow database: creating one takes seconds, copying it none."""
    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    with mlflow_client(TrackingConfig(uri=f"sqlite:///{database}", experiment="template")):
        return database


@pytest.fixture
def tracking(tmp_path, template_database) -> TrackingConfig:
    database = tmp_path / "home" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(template_database, database)
    return TrackingConfig(uri=f"sqlite:///{database}", experiment="sentiment")


@dataclass
class Candidates:
    """Makes candidates in the same home."""

    folder: Path
    tracking: TrackingConfig

    def make(self, name: str, accuracy: float, **changes) -> TrackedCandidate:
        return TrackedCandidate.make(self.folder / "store", self.tracking, name, accuracy, **changes)


@pytest.fixture
def candidates(tmp_path, tracking) -> Candidates:
    return Candidates(tmp_path, tracking)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pytest_collection_modifyitems(items):
    """MLflow 3.17 calls what SQLAlchemy 2.1 deprecates; drop this with the next MLflow."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"))
