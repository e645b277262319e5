"""Batch inference: predictions for files with a registered model, or one in a folder."""

# No postponed annotations: Prefect would look their names up in the module of the decorator below.
import logging
import os
from pathlib import Path
from typing import Any

from prefect import flow

from tunesmith.environment import fill_environment
from tunesmith.home import Home
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.models import ModelFormat
from tunesmith.tasks.prediction import choose_model, predict_rows, publish_report
from tunesmith.tasks.preemption import reschedule_when_preempted
from tunesmith.tracking.config import TrackingConfig


@flow(name="predict")
@reschedule_when_preempted
def predict(
    model: str,
    sources: list[str],
    target: str,
    model_format: ModelFormat = "model",
    config: dict[str, Any] | None = None,
) -> PredictReport:
    """Write every row of the sources to the target, with what the model says beside it.

    Args:
        model: `models:/<name>@champion`, `models:/<name>/<version>` or the folder of an exported model.
        sources: Files, globs or `s3://` addresses.
        target: A file, or a folder of shards; either may be on S3.
        model_format: Which of the model's exports.
        config: The fields of `PredictConfig`, such as `{"shard_rows": 10000}`.
    """
    logging.getLogger("tunesmith").setLevel(logging.INFO)  # Prefect's extra loggers come without a level
    fill_environment(os.environ)
    tracking = TrackingConfig(uri=Home.locate(os.environ, Path.cwd()).find_tracking_uri(os.environ))
    wanted = PredictConfig.model_validate(config or {})
    report = predict_rows(choose_model(model, tracking), model_format, sources, target, tracking, wanted)
    publish_report(report, return_state=True)  # what is predicted does not fail for want of a page
    return report
