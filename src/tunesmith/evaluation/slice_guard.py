"""Whether a candidate keeps what the gate demands of it on each slice; many slices are many chances to look bad."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tunesmith.evaluation.comparison import DIGITS, compare, ensure_finite
from tunesmith.evaluation.intervals import Bootstrap, compute_values
from tunesmith.kinds.draws import Draws, Measured


class SliceRule(BaseModel):
    """What is demanded on slices."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    metric: str
    """The primary metric."""
    greater_is_better: bool
    """Its better direction."""
    max_loss: float | None
    """The loss against the opponent that is too much."""
    floors: Mapping[str, float]
    """The value that is too bad, by the name of the slice."""
    alpha: float
    """The chance that is taken of refusing a candidate that keeps all of it."""
    min_examples: int
    """Examples without which a slice is not tested."""


class SliceFinding(BaseModel):
    """A demand on one slice, and whether the candidate keeps it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    slice: str
    """The slice."""
    num_examples: int
    """Its examples."""
    value: float | None
    """The candidate's metric on it; None where it is not defined there, as a rank is not for a single label."""
    demand: str
    """What is demanded, in words."""
    p_value: float | None
    """How likely it would look so bad at the most, did it keep the demand, after Holm's correction; None where it
    cannot be tested: it has too few examples, or the metric is not defined."""
    is_broken: bool
    """Whether it is shown that the demand is not kept."""


def guard_slices(
    candidate: Mapping[str, Measured], other: Mapping[str, Measured] | None, rule: SliceRule
) -> tuple[SliceFinding, ...]:
    """Test every demand on every slice.

    Args:
        candidate: What the candidate predicted, by slice.
        other: What the opponent predicted for the same examples; None where there is none.
        rule: What is demanded.

    Returns:
        A finding for each demand, the likeliest to be broken first.

    Raises:
        TunesmithError: A test gives no p-value, or a loss of so much there cannot be.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    findings = []
    for name, ours in candidate.items():
        value = compute_values(ours, [rule.metric])[rule.metric]
        can_test = ours.num_examples >= rule.min_examples and math.isfinite(value)
        found = SliceFinding(
            slice=name,
            num_examples=ours.num_examples,
            value=round(value, DIGITS) if math.isfinite(value) else None,
            demand="",
            p_value=None,
            is_broken=False,
        )
        if rule.max_loss is not None and other is not None:
            p_value = _test_loss(ours, other[name], rule.max_loss, rule) if can_test else None
            demand = f"a loss of at most {rule.max_loss:g}"
            findings.append(found.model_copy(update={"demand": demand, "p_value": p_value}))
        if name in rule.floors:
            p_value = ensure_finite(_test_floor(ours, rule.floors[name], rule), rule.metric) if can_test else None
            demand = f"{rule.metric} of at {'least' if rule.greater_is_better else 'most'} {rule.floors[name]:g}"
            findings.append(found.model_copy(update={"demand": demand, "p_value": p_value}))
    return _correct(findings, rule.alpha)


def read_slices(slices: pa.Table) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The numbers of the rows in each slice of a table with a column of true/false a slice."""
    return {name: np.flatnonzero(slices[name].to_numpy()) for name in slices.column_names if name != "row_id"}


def _test_loss(ours: Measured, theirs: Measured, max_loss: float, rule: SliceRule) -> float:
    better = rule.greater_is_better
    lost = compare(theirs, ours, rule.metric, greater_is_better=better, min_gain=max_loss, alpha=rule.alpha)
    return lost.p_value


def _test_floor(ours: Measured, floor: float, rule: SliceRule) -> float:
    """The p-value of the null hypothesis that the truth is no worse than the floor: exact for shares of examples."""
    is_correct = ours.find_correct(rule.metric)
    if is_correct is not None:
        from scipy.stats import binom

        return float(binom.cdf(int(is_correct.sum()), len(is_correct), floor))
    sign = -1.0 if rule.greater_is_better else 1.0

    def compute_badness(draws: Draws) -> Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        return {rule.metric: sign * ours.compute([rule.metric], draws)[rule.metric]}

    return Bootstrap(compute_badness, ours.num_examples).find_tail(rule.metric, sign * floor)


def _correct(findings: Sequence[SliceFinding], alpha: float) -> tuple[SliceFinding, ...]:
    ordered = sorted(findings, key=lambda finding: 2.0 if finding.p_value is None else finding.p_value)
    num_tests = sum(finding.p_value is not None for finding in findings)
    corrected, highest = [], 0.0
    for place, finding in enumerate(ordered):
        if finding.p_value is not None:
            highest = max(highest, min(1.0, finding.p_value * (num_tests - place)))
            changes = {"p_value": round(highest, DIGITS), "is_broken": highest <= alpha}
            finding = finding.model_copy(update=changes)
        corrected.append(finding)
    return tuple(corrected)
