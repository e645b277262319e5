"""How judging runs."""

from __future__ import annotations

from prefect import task

from tunesmith.evaluation.decide import decide as decide_promotion
from tunesmith.evaluation.decide import derive_decide
from tunesmith.evaluation.evaluate import EvaluateConfig, derive_evaluate
from tunesmith.evaluation.evaluate import evaluate as evaluate_candidate
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.slicing import derive_slices
from tunesmith.evaluation.slicing import slice_rows as find_slices
from tunesmith.kinds import Examples
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent, is_transient
from tunesmith.tracking.config import RegistryConfig, TrackingConfig


@task(name="slice", cache_policy=ByContent(derive=derive_slices), result_serializer="json")
def slice_rows(splits: Ref, evaluate: EvaluateConfig, gate: GateConfig, store: StoreConfig) -> Ref:
    """Find the slices of the test rows."""
    return find_slices(splits, evaluate, gate, open_store(store))


@task(cache_policy=ByContent(derive=derive_evaluate), result_serializer="json")
def evaluate(
    candidate: Ref,
    splits: Ref,
    slices: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    store: StoreConfig,
) -> Ref:
    """Score the candidate and its baseline on the test split."""
    return evaluate_candidate(candidate, splits, slices, features, examples, model, evaluate, open_store(store))


@task(
    cache_policy=ByContent(derive=derive_decide),
    result_serializer="json",
    retries=3,
    retry_delay_seconds=[1, 10, 30],
    retry_condition_fn=is_transient,
)
def decide(
    report: Ref,
    splits: Ref,
    exported: Ref,
    examples: Examples,
    evaluate: EvaluateConfig,
    gate: GateConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: StoreConfig,
) -> Ref:
    """Compare the candidate with the champion, on the same test rows."""
    return decide_promotion(report, splits, exported, examples, evaluate, gate, registry, tracking, open_store(store))
