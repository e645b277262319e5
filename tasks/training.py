"""How training runs: in a process of its own, never retried here, because it continues from its checkpoint."""

from __future__ import annotations

from prefect import task
from prefect.runtime import flow_run

from tunesmith.kinds import Examples
from tunesmith.modeling.base import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.run import LiveRun
from tunesmith.training.config import TrainConfig
from tunesmith.training.train import StreamInput, derive_train
from tunesmith.training.train import train as train_model


@task(cache_policy=ByContent(derive=derive_train), result_serializer="json")
def train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    tracking: TrackingConfig,
    record: RecipeRecord,
    stream: StreamInput,
    store: StoreConfig,
) -> Ref:
    """Fine-tune the base model, reporting to the candidate's MLflow run."""
    observer = LiveRun(tracking, record, flow_run_id=flow_run.get_id())
    return train_model(features, examples, model, train, open_store(store), observer, stream)
