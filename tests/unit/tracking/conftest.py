"""A candidate's artifacts as the earlier stages leave them, and an MLflow database that is there already."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from databases import copy_mlflow_database
from tracked_candidate import TrackedCandidate
from tunesmith.environment import MLFLOW_ENVIRONMENT
from tunesmith.tracking.config import TrackingConfig


@pytest.fixture(scope="session", autouse=True)
def _quiet_mlflow():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in MLFLOW_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def tracking(tmp_path) -> TrackingConfig:
    database = tmp_path / "home" / "mlflow.db"
    copy_mlflow_database(database)
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
