"""How training runs: in a process of its own, never retried here, because it continues from its checkpoint."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.runtime import flow_run

from tunesmith.kinds import Examples
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent, is_transient
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.run import LiveRun
from tunesmith.training.config import TrainConfig
from tunesmith.training.start import derive_start, find_start
from tunesmith.training.train import StreamInput, derive_train
from tunesmith.training.train import train as train_model


@task(
    cache_policy=ByContent(derive=derive_start),
    result_serializer="json",
    retries=3,
    retry_delay_seconds=[1, 10, 60],
    retry_condition_fn=is_transient,
)
def start(
    snapshot: Ref,
    splits: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: StoreConfig,
) -> Ref:
    """Find what training begins from: the base model or the champion."""
    return find_start(snapshot, splits, features, examples, model, registry, tracking, open_store(store))


@task(cache_policy=ByContent(derive=derive_train), result_serializer="json")
def train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    tracking: TrackingConfig,
    record: RecipeRecord,
    stream: StreamInput,
    start: Ref,
    store: StoreConfig,
    notes: Path,
) -> Ref:
    """Fine-tune the base model or the champion, reporting to the candidate's MLflow run."""
    observer = LiveRun(tracking, record, flow_run.get_id(), notes)
    return train_model(features, examples, model, train, open_store(store), observer, stream, start)
