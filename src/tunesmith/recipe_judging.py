"""What does not go together in `evaluate` and `gate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from tunesmith.evaluation.limits import CALIBRATION
from tunesmith.kinds.protocol import Kind
from tunesmith.recipe_schema import find_nearest
from tunesmith.recipe_streaming import section_of
from tunesmith.section import Conflict


def find_judging_conflicts(recipe: object, module: Kind) -> Iterable[Conflict]:
    """What a recipe asks of the judgement that the kind of task cannot give, or that has no effect.

    Args:
        recipe: What the recipe says, as JSON values; what has another form than a recipe has is no conflict.
        module: The kind of task.

    Returns:
        The place to change and what to do, for each conflict.
    """
    metrics = list(module.METRICS)
    kind = section_of(recipe, "examples").get("kind")
    evaluate, gate = section_of(recipe, "evaluate"), section_of(recipe, "gate")
    primary_metric = evaluate.get("primary_metric")
    own = _find_own_names(evaluate)
    if isinstance(primary_metric, str) and primary_metric in own:
        text = f"{primary_metric} is a metric of yours, which is reported and not tested; choose {', '.join(metrics)}"
        yield ("evaluate", "primary_metric"), text
    elif isinstance(primary_metric, str) and primary_metric not in metrics:
        nearest = find_nearest(primary_metric, list(metrics))
        hint = "" if nearest is None else f"; did you mean {nearest!r}?"
        text = f"{primary_metric} is no metric of {kind}; there are {', '.join(metrics)}{hint}"
        yield ("evaluate", "primary_metric"), text
    if evaluate.get("calibrate") is True and not module.HAS_TEMPERATURE:
        yield ("evaluate", "calibrate"), f"has no effect on {kind}, which predicts no classes; remove it"
    elif evaluate.get("calibrate") is True and section_of(recipe, "split").get("validation_fraction") == 0:
        yield ("evaluate", "calibrate"), "fits its temperature on the validation split; give that a fraction above 0"
    if module.JOINS_ROWS and evaluate.get("slices"):
        yield ("evaluate", "slices"), f"has no effect on {kind}, whose examples hold several rows; remove it"
    if module.JOINS_ROWS and evaluate.get("metrics"):
        yield ("evaluate", "metrics"), f"has no effect on {kind}, which has no labels to compare with; remove it"
    for name in sorted(own & {*metrics}):
        yield ("evaluate", "metrics"), f"{kind} has a metric {name} already; give yours another name"
    if gate.get("max_calibration_error") is not None and CALIBRATION not in metrics:
        yield ("gate", "max_calibration_error"), f"has no effect on {kind}, which predicts no classes; remove it"
    yield from _find_without_slices(evaluate, gate)
    judged_by = module.PRIMARY_METRIC if primary_metric is None else primary_metric
    if judged_by in metrics:
        yield from _find_out_of_range(gate, judged_by, *module.METRIC_RANGES[judged_by])


def _find_own_names(evaluate: Mapping[str, object]) -> set[str]:
    metrics = evaluate.get("metrics")
    entries = metrics if isinstance(metrics, (list, tuple)) else []
    return {name for entry in entries if isinstance(entry, Mapping) and isinstance(name := entry.get("name"), str)}


def _find_without_slices(evaluate: Mapping[str, object], gate: Mapping[str, object]) -> Iterable[Conflict]:
    for name in ("max_slice_loss", "slice_floors"):
        if gate.get(name) is not None and not evaluate.get("slices"):
            yield ("gate", name), "has no effect without evaluate.slices; name the slices there, or remove it"


def _find_out_of_range(gate: Mapping[str, object], metric: str, low: float, high: float) -> Iterable[Conflict]:
    """Demands that a metric with these values keeps always, or never."""
    for name in ("min_gain", "non_inferiority_margin", "max_slice_loss"):
        difference = gate.get(name)
        if _is_number(difference) and difference >= high - low:
            yield ("gate", name), _describe_range(difference, metric, low, high)
    floors = gate.get("slice_floors")
    for name, floor in floors.items() if isinstance(floors, Mapping) else ():
        if _is_number(floor) and not low <= floor <= high:
            yield ("gate", "slice_floors", name), _describe_range(floor, metric, low, high)


def _describe_range(value: float, metric: str, low: float, high: float) -> str:
    percent = f"; {value:g} % is {value / 100:g}" if high == 1 <= value <= 100 else ""
    return f"{value:g} decides nothing: {metric} lies between {low:g} and {high:g}{percent}"


def _is_number(value: object) -> TypeGuard[float]:
    is_finite = isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return is_finite and not isinstance(value, bool)
