"""Where the files of a model lie that a person names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith.home import Home

REGISTERED = "models:/"


def find_model_folder(model: str, environ: Mapping[str, str], directory: Path) -> Path:
    """The folder of a model.

    Args:
        model: `models:/<name>@<alias>`, `models:/<name>/<version>`, or a folder, which is not looked at here.
        environ: Says where the home and MLflow are.
        directory: The working directory.

    Raises:
        ModelError: There is no such registered model; the message lists those that exist.
        TunesmithError: MLflow cannot be reached.
    """
    if not model.startswith(REGISTERED):
        return Path(model)
    from tunesmith.tracking.config import TrackingConfig
    from tunesmith.tracking.registry import resolve_model

    home = Home.locate(environ, directory)
    return resolve_model(model, TrackingConfig(uri=home.find_tracking_uri(environ)), home.folder / "models")
