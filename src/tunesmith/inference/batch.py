"""Batch inference as the command and the flow ask for it: a model by name, files in, files out."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.home import Home
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.models import ModelFormat, find_model_folder
from tunesmith.inference.predict import predict_files
from tunesmith.tracking.config import TrackingConfig


def predict_batch(
    model: str,
    model_format: ModelFormat,
    sources: Sequence[str],
    target: str,
    home: Home,
    tracking: TrackingConfig,
    config: PredictConfig,
) -> PredictReport:
    """Find a model, and predict for every row of some files; see `find_model_folder` and `predict_files`."""
    folder = find_model_folder(model, model_format, home, tracking)
    return predict_files(folder, sources, target, home.folder / "predicting", config)
