"""TUNESMITH_HOME: the folder of everything that one machine needs when no server is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "TUNESMITH_HOME"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_FOLDER = ".tunesmith"


@dataclass(frozen=True)
class Home:
    """Where the store, MLflow's and Prefect's databases and the logs of this machine lie.

    Attributes:
        folder: Absolute; made by whoever first writes into it.
    """

    folder: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str], working_directory: Path) -> Home:
        """The home that the environment names, else `.tunesmith` in the working directory.

        Args:
            environ: The environment's variables.
            working_directory: What a relative TUNESMITH_HOME is relative to.

        Example:
            >>> Home.locate({"TUNESMITH_HOME": "/data/tunesmith"}, Path("/work")).store_uri
            '/data/tunesmith/store'
        """
        named = environ.get(HOME_VARIABLE, "").strip()
        return cls((working_directory / Path(named or DEFAULT_FOLDER).expanduser()).absolute())

    @property
    def store_uri(self) -> str:
        """The store's folder."""
        return str(self.folder / "store")

    @property
    def base_folder(self) -> str:
        """Base models that were converted from GGUF files."""
        return str(self.folder / "bases")

    @property
    def tracking_uri(self) -> str:
        """MLflow's SQLite file, as MLflow spells it."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def find_tracking_uri(self, environ: Mapping[str, str]) -> str:
        """The MLflow store that the environment names, else this home's own."""
        return environ.get(TRACKING_VARIABLE, "").strip() or self.tracking_uri

    @property
    def prefect_folder(self) -> Path:
        """Prefect's own home: its SQLite file, profiles and cached results."""
        return self.folder / "prefect"

    @property
    def unrecorded_folder(self) -> Path:
        """Notes on what MLflow does not have yet."""
        return self.folder / "unrecorded"

    @property
    def log_folder(self) -> Path:
        """Where the traceback of an unexpected error is kept."""
        return self.folder / "logs"
