"""`predict_files` for one file, with a work area of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.predict import predict_files


def predict_file(model: Path, source: Path, target: Path, **config: Any) -> PredictReport:
    """With the work area beside the folder of the target, which has nothing else in it."""
    work = target.parent.with_name(f"{target.parent.name}-work")
    return predict_files(model, [str(source)], str(target), work, PredictConfig(**config))
