"""The evaluate stage: a candidate and its baseline, scored on the same test examples."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tunesmith.errors import TunesmithError, UserError
from tunesmith.evaluation.metric import load_metric, metric_module, metric_names
from tunesmith.evaluation.scoring import score
from tunesmith.features.files import read_split
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.kinds.protocol import Kind
from tunesmith.modeling.base import ModelConfig, find_base
from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "transformers", "evaluate", "scikit-learn")


class EvaluateConfig(Section):
    """How a candidate is judged."""

    primary_metric: str | None = None
    """The metric that the decision rests on, one of the kind's; by default the kind's own choice."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Examples in a forward pass. In the key: padding moves the last bits of the logits."""


def derive_evaluate(
    candidate: Ref, features: Ref, examples: Examples, model: ModelConfig, evaluate: EvaluateConfig
) -> Derivation:
    """What a candidate's report is made of.

    Raises:
        UserError: The kind has no such primary metric.
    """
    kind = find_kind(examples)
    _find_primary_metric(kind, evaluate)
    metrics = [metric_module(name) for name in metric_names() if name in kind.METRICS]

    def build(folder: Path) -> Facts:
        return _evaluate(folder, candidate, features, examples, model, evaluate)

    return Derivation(
        kind="evaluate",
        ingredients=compose_ingredients(
            config={"examples": examples.key_fields(), "evaluate": evaluate.key_fields()},
            inputs={"candidate": candidate.key, "features": features.key},
            code=("tunesmith.evaluation.evaluate", kind_module(examples), *metrics),
            libraries=LIBRARIES,
        ),
        build=build,
    )


def evaluate(
    candidate: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    store: FolderStore,
) -> Ref:
    """Score a candidate and its baseline on the test split.

    Returns:
        predictions.parquet and metrics.json; the facts hold the metrics of both.

    Raises:
        TunesmithError: The candidate's numbers are not finite.
    """
    return store.ensure(derive_evaluate(candidate, features, examples, model, evaluate))


@dataclass(frozen=True)
class _Judge:
    """What the candidate and its baseline are both judged with."""

    kind: Kind
    labels: tuple[str, ...]
    test: pa.Table
    pad_token_id: int
    batch_size: int

    def predict(self, model: torch.nn.Module, name: str) -> pa.Table:
        summary = score(
            model, self.test, self.kind, self.pad_token_id, batch_size=self.batch_size, title=f"evaluating {name}"
        )
        return self.kind.prediction_table(summary, self.test, self.labels)

    def measure(self, predictions: pa.Table, name: str) -> dict[str, float]:
        metrics = self.kind.compute_metrics(predictions, self.labels, load_metric)
        for metric, value in metrics.items():
            if not math.isfinite(value):
                raise TunesmithError(f"{metric} of {name} is {value}: its weights are of no use")
        return {metric: float(value) for metric, value in metrics.items()}


def _evaluate(
    folder: Path, candidate: Ref, features: Ref, examples: Examples, model: ModelConfig, config: EvaluateConfig
) -> Facts:
    from tunesmith.modeling.load import load_trained

    kind, labels = find_kind(examples), tuple(features.facts["labels"])
    test = read_split(features.folder, "test")
    judge = _Judge(kind, labels, test, features.facts["pad_token_id"], config.batch_size)
    base = find_base(model).folder
    predictions = judge.predict(load_trained(candidate.folder, base, examples, labels), "the candidate")
    primary_metric = _find_primary_metric(kind, config)
    facts = {
        "candidate": candidate.key,
        "metrics": judge.measure(predictions, "the candidate"),
        "baseline": _judge_baseline(judge, predictions, read_split(features.folder, "train"), examples, base),
        "primary_metric": primary_metric,
        "greater_is_better": kind.METRICS[primary_metric],
        "num_examples": predictions.num_rows,
    }
    pq.write_table(predictions, folder / "predictions.parquet")
    (folder / "metrics.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def _judge_baseline(
    judge: _Judge, predictions: pa.Table, train: pa.Table, examples: Examples, base: Path
) -> dict[str, Any]:
    from tunesmith.modeling.load import build_model

    name = judge.kind.baseline_name(train, judge.labels)
    baseline = judge.kind.baseline_predictions(train, predictions, judge.labels)
    if baseline is None:
        baseline = judge.predict(build_model(base, examples, judge.labels, None, seed=0), "the base model")
    return {"name": name, "metrics": judge.measure(baseline, f"the baseline ({name})")}


def _find_primary_metric(kind: Kind, config: EvaluateConfig) -> str:
    name = kind.PRIMARY_METRIC if config.primary_metric is None else config.primary_metric
    if name not in kind.METRICS:
        names = ", ".join(sorted(kind.METRICS))
        raise UserError(f"evaluate.primary_metric: {name!r} is not a metric of this kind; there are {names}")
    return name
