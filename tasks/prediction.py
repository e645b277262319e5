"""How predicting runs."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tunesmith.home import Home
from tunesmith.inference.batch import predict_batch
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.models import ModelFormat
from tunesmith.tasks.policy import is_transient
from tunesmith.tracking.config import TrackingConfig


@task(
    name="predict",
    cache_policy=NO_CACHE,  # the shards are verified where they lie, which no record of Prefect's can say
    retries=3,
    retry_delay_seconds=[1, 10, 30],
    retry_condition_fn=is_transient,
)
def predict_rows(
    model: str,
    model_format: ModelFormat,
    sources: list[str],
    target: str,
    tracking: TrackingConfig,
    config: PredictConfig,
) -> PredictReport:
    """Predict for every row of some files; a retry goes on from the last finished shard."""
    home = Home.locate(os.environ, Path.cwd())
    return predict_batch(model, model_format, sources, target, home, tracking, config)


@task(cache_policy=NO_CACHE)
def publish_report(report: PredictReport) -> None:
    """Put what was predicted on the page of the run."""
    create_markdown_artifact(report.as_markdown(), key="predictions", description=report.target)
