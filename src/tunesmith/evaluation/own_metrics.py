"""Metrics of the user's own: a function, or a class of the `evaluate` library, on predicted and true labels.

They are reported beside the kind's metrics, with an interval; the gate does not test them.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from tunesmith.data.functions import FunctionOptions, LoadedFunction, function_digest, open_function
from tunesmith.errors import DataError
from tunesmith.evaluation.intervals import CONFIDENCE, Bootstrap, Interval
from tunesmith.kinds.class_metrics import softmax
from tunesmith.kinds.draws import Array, Draws
from tunesmith.section import Section

NUM_DRAWS = 200
"""Of the bootstrap: with the jackknife, a function is called 401 times at most."""

Values = Mapping[str, float]
Measure = Callable[[Array], Values]
"""Numbers of examples -> the metrics over those."""


class OwnMetric(Section):
    """A metric of yours."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
    """What it is called in reports and in MLflow."""
    function: FunctionOptions
    """The function: it gets `predictions` and `references`, lists of labels, and where it has such a parameter
    `probabilities`, a dict of label and probability for each; it returns a number, or a dict of numbers by name. It may
    be a class derived from `evaluate.Metric` instead."""

    @field_validator("function")
    @classmethod
    def _gets_all_at_once(cls, value: FunctionOptions) -> FunctionOptions:
        if value.batched:
            raise ValueError("`batched` has no effect on a metric, which gets all examples at once; remove it")
        return value


def digest_metrics(metrics: Sequence[OwnMetric]) -> dict[str, str]:
    """The source of each metric, as a digest: part of the key of what is measured with it."""
    return {f"metric {metric.name}": function_digest(metric.function) for metric in metrics}


def check_metrics(metrics: Sequence[OwnMetric]) -> None:
    """Refuse what would fail after the training: import each function, and look at what it takes.

    Raises:
        DataError: There is no such function, or it cannot be called with predictions and references.
    """
    for metric in metrics:
        with open_function(metric.function) as function:
            call: Any = function.call
            if isinstance(call, type):
                _check_class(metric, call)
                continue
            try:
                inspect.signature(call).bind([], [], **_find_extra(call, []))
            except TypeError as error:
                raise DataError(
                    f"{_place(metric)} cannot be called with (predictions, references): {error}. Correct it."
                ) from error


def compute_own_metrics(
    metrics: Sequence[OwnMetric], predictions: pa.Table, labels: Sequence[str], taken: Collection[str]
) -> dict[str, float]:
    """Each metric over all examples.

    Args:
        metrics: The recipe's.
        predictions: A table with `prediction`, `label` and `logits`.
        labels: The label set in id order.
        taken: The names of the kind's own metrics.

    Raises:
        DataError: A function raised, returned something else than finite numbers, or a name that is taken.
    """
    found: dict[str, float] = {}
    for metric in metrics:
        with _open(metric, predictions, labels) as measure:
            values = measure(np.arange(predictions.num_rows))
        for name, value in values.items():
            if name in taken or name in found:
                raise DataError(
                    f"{_place(metric)}: {name}, its name and what it returned, is a metric already; "
                    "give evaluate.metrics another name, or return another."
                )
            if not math.isfinite(value):
                raise DataError(
                    f"{_place(metric)} returned {value} for {name}; it must be finite on all test examples."
                )
        found |= values
    return found


def compute_own_intervals(
    metrics: Sequence[OwnMetric], predictions: pa.Table, labels: Sequence[str]
) -> dict[str, Interval]:
    """The interval of each metric, by a bootstrap of `NUM_DRAWS`; a NaN in a draw counts for nothing."""
    found: dict[str, Interval] = {}
    for metric in metrics:
        with _open(metric, predictions, labels) as measure:
            names = [*measure(np.arange(predictions.num_rows))]
            bootstrap = Bootstrap(_weigh(measure, names), predictions.num_rows, NUM_DRAWS)
        for name in names:
            value, drawn = float(bootstrap.values[name][0]), bootstrap.drawn[name]
            is_constant = bool(np.all(drawn == value))
            found[name] = Interval(low=value, high=value) if is_constant else bootstrap.find_interval(name, CONFIDENCE)
    return found


def _weigh(measure: Measure, names: Sequence[str]) -> Callable[[Draws], Mapping[str, Array]]:
    def compute(draws: Draws) -> Mapping[str, Array]:
        values = [measure(np.repeat(np.arange(draws.shape[1]), counts.astype(np.int64))) for counts in draws]
        return {name: np.array([found.get(name, math.nan) for found in values]) for name in names}

    return compute


@contextmanager
def _open(metric: OwnMetric, predictions: pa.Table, labels: Sequence[str]) -> Iterator[Measure]:
    said, true = (np.array(predictions[name].to_pylist(), dtype=object) for name in ("prediction", "label"))
    logits = np.array(predictions["logits"].to_pylist(), np.float64).reshape(len(said), len(labels))
    probabilities = [dict(zip(labels, row, strict=True)) for row in softmax(logits).tolist()]
    with open_function(metric.function) as function, _as_function(function.call) as call:
        extra = _find_extra(call, probabilities)

        def measure(numbers: Array) -> Values:
            given = {name: [rows[number] for number in numbers] for name, rows in extra.items()}
            return _call(metric, function, lambda: call(said[numbers].tolist(), true[numbers].tolist(), **given))

        yield measure


@contextmanager
def _as_function(found: Any) -> Iterator[Callable[..., Any]]:
    """A function as it is; of a class of the `evaluate` library, what computes its metric."""
    if not isinstance(found, type):
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="tunesmith-metric-") as folder:
        metric = found(keep_in_memory=True, cache_dir=folder)
        yield lambda predictions, references: metric.compute(predictions=predictions, references=references)


def _check_class(metric: OwnMetric, found: type) -> None:
    import evaluate

    if not issubclass(found, evaluate.Metric):
        raise DataError(f"{_place(metric)} is a class, and not one derived from evaluate.Metric; name a function.")


def _find_extra(call: Callable[..., Any], probabilities: Sequence[Any]) -> dict[str, Sequence[Any]]:
    return {"probabilities": probabilities} if "probabilities" in inspect.signature(call).parameters else {}


def _call(metric: OwnMetric, function: LoadedFunction, call: Callable[[], Any]) -> Values:
    try:
        returned = call()
    except Exception as error:  # the user's own code may raise anything
        raise DataError(
            f"{_place(metric)} raised {function.source.describe(error)}. Where it is not defined on some of the "
            "examples, as in a draw of the bootstrap, it must return a NaN."
        ) from error
    values = returned if isinstance(returned, dict) else {metric.name: returned}
    try:
        numbers = {str(name): float(value) for name, value in values.items()}
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{_place(metric)} returned {returned!r:.200}; it must return a number or a dict of numbers."
        ) from error
    if len(numbers) == 1:
        return {metric.name: next(iter(numbers.values()))}
    return {f"{metric.name}_{name}": value for name, value in numbers.items()}


def _place(metric: OwnMetric) -> str:
    return f"evaluate.metrics: {metric.name}: function {metric.function.path}"
