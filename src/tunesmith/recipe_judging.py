"""What does not go together in `evaluate` and `gate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def _find_own_names(evaluate: Mapping[str, object]) -> set[str]:
    metrics = evaluate.get("metrics")
    entries = metrics if isinstance(metrics, (list, tuple)) else []
    return {name for entry in entries if isinstance(entry, Mapping) and isinstance(name := entry.get("name"), str)}


def _find_without_slices(evaluate: Mapping[str, object], gate: Mapping[str, object]) -> Iterable[Conflict]:
    for name in ("max_slice_loss", "slice_floors"):
        if gate.get(name) is not None and not evaluate.get("slices"):
            yield ("gate", name), "has no effect without evaluate.slices; name the slices there, or remove it"
