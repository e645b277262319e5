"""Where runs are tracked, and under which name versions are registered."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from tunesmith.home import TRACKING_VARIABLE
from tunesmith.section import Section

SQLITE = "sqlite:///"


class TrackingConfig(Section):
    """Where every number of a run is kept."""

    uri: str = ""
    """MLflow's store, `sqlite:///<file>` or `http://<server>`: MLFLOW_TRACKING_URI, else in TUNESMITH_HOME."""
    experiment: str = ""
    """The MLflow experiment that holds the runs; by default the recipe's name."""

    def database(self) -> Path | None:
        """The SQLite file, or None where MLflow's store is something else."""
        path = self.uri.removeprefix(SQLITE).partition("?")[0]
        is_file = self.uri.startswith(SQLITE) and path not in ("", ":memory:")
        return Path(path) if is_file else None

    def public_uri(self) -> str:
        """The URI without user and password: for keys, messages and logs."""
        parts = urlsplit(self.uri)
        if "@" not in parts.netloc:
            return self.uri
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def is_missing(self) -> bool:
        """Whether it is a SQLite file that is not there: opening it would create it."""
        database = self.database()
        return database is not None and not database.exists()

    def command(self, command: str, usual_uri: str) -> str:
        """A command on the registry, as a person types it.

        Args:
            command: Such as `tunesmith rollback reviews`.
            usual_uri: The store that it asks where nobody says which.
        """
        if self.public_uri() == TrackingConfig(uri=usual_uri).public_uri():
            return command
        return f"{TRACKING_VARIABLE}={shlex.quote(self.public_uri())} {command}"


class RegistryConfig(Section):
    """Where trained models become versions."""

    model_name: Annotated[str, Field(pattern=r"^[^/:@'\"`]*$")] = ""
    """The registered model that gets a version per candidate; by default the recipe's name."""


def registry_identity(registry: RegistryConfig, tracking: TrackingConfig) -> dict[str, Any]:
    """What says which registry is meant, for the keys of the stages that ask it."""
    return {"tracking": {"uri": tracking.public_uri()}, "registry": {"model_name": registry.model_name}}
