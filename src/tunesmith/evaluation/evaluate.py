"""The evaluate stage: a candidate and its baseline, scored on the same test examples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from tunesmith.errors import DataError, TunesmithError, UserError
from tunesmith.evaluation.calibrate import CalibrationReport, calibrate
from tunesmith.evaluation.intervals import compute_intervals, compute_values
from tunesmith.evaluation.metric import load_metric, metric_module
from tunesmith.evaluation.own_metrics import OwnMetric, compute_own_intervals, compute_own_metrics, digest_metrics
from tunesmith.evaluation.predictions import JudgedRows, read_predictions
from tunesmith.evaluation.scoring import score
from tunesmith.evaluation.slices import SliceOptions, align_slices
from tunesmith.features.files import read_split
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.kinds.protocol import Kind
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "transformers", "evaluate", "numpy", "scikit-learn", "scipy")
NOTHING_TO_CALIBRATE_ON = (
    "evaluate.calibrate: the validation split has no rows to fit the temperature on. Make split.validation_fraction "
    "larger, or remove it."
)
CANDIDATE, BASELINE, SLICES = "predictions.parquet", "baseline.parquet", "slices.parquet"


class EvaluateConfig(Section):
    """How a candidate is judged."""

    primary_metric: str | None = None
    """The metric that the decision rests on, one of the kind's; by default the kind's own choice."""
    calibrate: bool = False
    """Whether the logits are divided by a temperature that is fitted on the validation split, so that a probability of
    0.8 is right 8 times of 10; the temperature goes with the model wherever it is served."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Examples in a forward pass. In the key: padding moves the last bits of the logits."""
    slices: tuple[SliceOptions, ...] = ()
    """Parts of the test rows that are measured, and by `gate.max_slice_loss` guarded, on their own."""
    metrics: tuple[OwnMetric, ...] = ()
    """Metrics of your own, reported beside the kind's, each with an interval; the gate does not test them."""

    @field_validator("metrics")
    @classmethod
    def _have_names_of_their_own(cls, metrics: tuple[OwnMetric, ...]) -> tuple[OwnMetric, ...]:
        names = [metric.name for metric in metrics]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"there are two metrics {twice[0]!r}; each needs a name of its own")
        return metrics


def derive_evaluate(
    candidate: Ref,
    splits: Ref,
    slices: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    store: FolderStore,
) -> Derivation:
    """What a candidate's report is made of.

    Args:
        candidate: The train artifact.
        splits: The split artifact, whose test rows judge.
        slices: The slice artifact: which of these rows are in which slice.
        features: The encode artifact; it holds the key of the splits in its own.
        examples: The kind of task.
        model: The base model.
        evaluate: How the candidate is judged.
        store: Where the predictions are kept.

    Raises:
        UserError: The kind has no such primary metric.
    """
    kind = find_kind(examples)
    _find_primary_metric(kind, evaluate)
    if evaluate.slices and kind.JOINS_ROWS:
        raise UserError(f"evaluate.slices: {examples.kind} joins rows into examples, which are in no slice; remove it")
    if evaluate.metrics and kind.JOINS_ROWS:
        raise UserError(f"evaluate.metrics: {examples.kind} has no labels to compare with; remove it")
    modules = [metric_module(name) for name in kind.METRIC_MODULES]

    def build(folder: Path) -> Facts:
        return _evaluate(folder, candidate, splits, slices, features, examples, model, evaluate, store)

    return Derivation(
        kind="evaluate",
        ingredients=compose_ingredients(
            config={"examples": examples.key_fields(), "evaluate": evaluate.key_fields()},
            inputs={
                "candidate": candidate.key,
                "features": features.key,
                "slices": slices.key,
                **digest_metrics(evaluate.metrics),
            },
            code=("tunesmith.evaluation.evaluate", kind_module(examples), *modules),
            libraries=LIBRARIES,
        ),
        build=build,
    )


def evaluate(
    candidate: Ref,
    splits: Ref,
    slices: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    store: FolderStore,
) -> Ref:
    """Score a candidate and its baseline on the test split.

    Returns:
        The predictions of both and metrics.json; the facts hold the metrics of both, and their intervals.

    Raises:
        TunesmithError: The candidate's numbers are not finite.
    """
    return store.ensure(derive_evaluate(candidate, splits, slices, features, examples, model, evaluate, store))


@dataclass(frozen=True)
class _Judge:
    """What the candidate and its baseline are both judged with."""

    rows: JudgedRows
    features: Ref
    labels: tuple[str, ...]
    primary_metric: str
    own_metrics: tuple[OwnMetric, ...]
    store: FolderStore

    @property
    def kind(self) -> Kind:
        return find_kind(self.rows.examples)

    def predict(self, key: str, load: Callable[[], torch.nn.Module], name: str) -> Ref:
        def predict() -> pa.Table:
            test, padding = read_split(self.features.folder, self.rows.split), self.features.facts["pad_token_id"]
            title, size = f"evaluating {name}", self.rows.batch_size
            summary = score(load(), test, self.kind, padding, batch_size=size, title=title)
            return self.kind.prediction_table(summary, test, self.labels)

        return self.rows.predict(key, self.labels, predict, self.store)

    def measure(self, predictions: pa.Table, name: str) -> dict[str, Any]:
        metrics = self.kind.compute_metrics(predictions, self.labels, load_metric)
        metrics = {metric: value for metric, value in metrics.items() if not math.isnan(value)}
        if self.primary_metric not in metrics:
            raise DataError(
                f"evaluate.primary_metric: {self.primary_metric} is not defined on these {predictions.num_rows} test "
                "examples, for they are all of one label. Add rows, make split.test_fraction larger, or choose another."
            )
        for metric, value in metrics.items():
            if not math.isfinite(value):
                raise TunesmithError(f"{metric} of {name} is {value}: its weights are of no use")
        intervals = compute_intervals(self.kind.measure(predictions, self.labels), [*metrics])
        metrics |= compute_own_metrics(self.own_metrics, predictions, self.labels, self.kind.METRICS)
        intervals |= compute_own_intervals(self.own_metrics, predictions, self.labels)
        return {
            "metrics": {metric: float(value) for metric, value in metrics.items()},
            "intervals": {metric: interval.model_dump() for metric, interval in intervals.items()},
        }

    def measure_slice(self, predictions: pa.Table) -> dict[str, Any]:
        """The headline metrics that are defined on a slice."""
        names = [*dict.fromkeys([self.primary_metric, *self.kind.HEADLINE_METRICS])]
        measured = self.kind.measure(predictions, self.labels)
        metrics = {name: value for name, value in compute_values(measured, names).items() if math.isfinite(value)}
        intervals = compute_intervals(measured, [*metrics])
        return {
            "num_examples": predictions.num_rows,
            "metrics": metrics,
            "intervals": {metric: interval.model_dump() for metric, interval in intervals.items()},
        }


def _evaluate(
    folder: Path,
    candidate: Ref,
    splits: Ref,
    slices: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    config: EvaluateConfig,
    store: FolderStore,
) -> Facts:
    from tunesmith.modeling.load import load_trained

    labels, base = tuple(features.facts["labels"]), find_base(model).folder
    primary_metric = _find_primary_metric(find_kind(examples), config)
    rows = JudgedRows(splits, "test", examples, config.batch_size)
    judge = _Judge(rows, features, labels, primary_metric, config.metrics, store)
    predicted = judge.predict(
        candidate.key, lambda: load_trained(candidate.folder, base, examples, labels), "the candidate"
    )
    predictions = read_predictions(predicted, judge.kind, labels)
    calibration = _calibrate(judge, predictions, config, candidate, base)
    if calibration is not None and calibration.applied_temperature is not None:
        predictions = judge.kind.scale(predictions, labels, calibration.applied_temperature)
    pq.write_table(predictions, folder / CANDIDATE)
    measured = judge.measure(predictions, "the candidate")
    own = [name for name in measured["metrics"] if name not in judge.kind.METRICS]
    facts = {
        "candidate": candidate.key,
        **measured,
        "baseline": _judge_baseline(judge, predictions, model, folder),
        "primary_metric": primary_metric,
        "greater_is_better": judge.kind.METRICS[primary_metric],
        "headline_metrics": [*dict.fromkeys([primary_metric, *judge.kind.HEADLINE_METRICS, *own])],
        "labels": [*labels],
        "slices": _measure_slices(judge, predictions, slices, folder),
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "num_examples": predictions.num_rows,
    }
    (folder / "metrics.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def _calibrate(
    judge: _Judge, predictions: pa.Table, config: EvaluateConfig, candidate: Ref, base: Path
) -> CalibrationReport | None:
    """The calibration of the candidate; None for a kind that has no temperature."""
    from tunesmith.modeling.load import load_trained

    if not judge.kind.HAS_TEMPERATURE:
        return None
    validation = None
    if judge.features.facts["num_examples"].get("validation"):
        judging = replace(judge, rows=replace(judge.rows, split="validation"))
        predicted = judging.predict(
            candidate.key, lambda: load_trained(candidate.folder, base, judge.rows.examples, judge.labels), "validation"
        )
        validation = read_predictions(predicted, judge.kind, judge.labels)
    elif config.calibrate:
        raise DataError(NOTHING_TO_CALIBRATE_ON)
    return calibrate(judge.kind, predictions, validation, judge.labels, is_applied=config.calibrate)


def _measure_slices(judge: _Judge, predictions: pa.Table, slices: Ref, folder: Path) -> list[dict[str, Any]]:
    found = align_slices(pq.read_table(slices.folder / SLICES), predictions["row_id"])
    pq.write_table(found, folder / SLICES)
    names = [name for name in found.column_names if name != "row_id"]
    return [{"name": name, **judge.measure_slice(predictions.filter(found[name]))} for name in names]


def _judge_baseline(judge: _Judge, predictions: pa.Table, model: ModelConfig, folder: Path) -> dict[str, Any]:
    from tunesmith.modeling.load import build_model

    train = read_split(judge.features.folder, "train")
    name, base = judge.kind.baseline_name(train, judge.labels), find_base(model)
    baseline = judge.kind.baseline_predictions(train, predictions, judge.labels)
    if baseline is None:
        untouched = judge.predict(
            f"{base.digest} untouched, {judge.features.facts['max_length']} tokens",
            lambda: build_model(base.folder, judge.rows.examples, judge.labels, None, seed=0),
            "the base model",
        )
        baseline = read_predictions(untouched, judge.kind, judge.labels)
    pq.write_table(baseline, folder / BASELINE)
    return {"name": name, **judge.measure(baseline, f"the baseline ({name})")}


def _find_primary_metric(kind: Kind, config: EvaluateConfig) -> str:
    name = kind.PRIMARY_METRIC if config.primary_metric is None else config.primary_metric
    if name not in kind.METRICS:
        names = ", ".join(sorted(kind.METRICS))
        raise UserError(f"evaluate.primary_metric: {name!r} is not a metric of this kind; there are {names}")
    return name
