"""How predicting runs."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tunesmith.home import Home
from tunesmith.inference.batch import predict_batch
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.models import ModelFormat, pin_model
from tunesmith.tasks.policy import is_transient
from tunesmith.tracking.config import TrackingConfig

MODEL_LABEL = "tunesmith.model"
"""The label of a flow run with the version that it predicts with."""


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[1, 10, 30], retry_condition_fn=is_transient)
def choose_model(model: str, tracking: TrackingConfig) -> str:
    """The version to predict with in every attempt of the flow run, wherever it is: what the first one found.

    Shards of two models do not go into one folder, and the alias may move while the run waits for its next attempt.
    """
    flow_run_id = UUID(str(flow_run.get_id()))
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(flow_run_id).labels.get(MODEL_LABEL)
        if known is not None:
            return str(known)
        pinned = pin_model(model, tracking)
        client.update_flow_run_labels(flow_run_id, {MODEL_LABEL: pinned})
    return pinned


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
