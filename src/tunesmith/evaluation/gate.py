"""The gate: from what two models predicted for the same examples to a verdict, with nothing else looked at.

So a decision can be made again from its document and the two tables, anywhere and at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tunesmith.data.nearest import find_nearest
from tunesmith.errors import DataError
from tunesmith.evaluation.comparison import DIGITS, POWER, Comparison, compare
from tunesmith.evaluation.intervals import compute_values
from tunesmith.evaluation.slice_guard import SliceFinding, SliceRule, guard_slices, read_slices
from tunesmith.kinds import Examples, find_kind
from tunesmith.section import Section

Verdict = Literal["PROMOTE", "HOLD", "REJECT", "NEED-DATA"]

LEAST_P_VALUE = 1e-6
MAX_NEEDED = 10
"""How many times the examples there are may be asked for; a gain that takes more to show is too small to matter."""


class GateConfig(Section):
    """What a candidate must do to become the champion."""

    min_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The gain over the champion that is not enough yet, in the primary metric's own unit: more must be shown."""
    non_inferiority_margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The loss that would be too much: where it is set, a candidate is promoted that is shown to lose less."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """The chance that is taken of promoting a candidate that is no better."""
    min_examples: Annotated[int, Field(ge=1)] = 30
    """Test examples without which nothing is decided."""
    require_baseline: bool = True
    """Whether it must beat the baseline that anyone can reach, when there is no champion yet to beat."""
    max_slice_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """The loss on a slice of `evaluate.slices` that is too much, whatever is gained elsewhere."""
    slice_floors: Annotated[dict[str, float], Field(min_length=1)] | None = None
    """By the name of a slice, the value of the primary metric that the candidate must reach there."""

    @model_validator(mode="after")
    def _demands_one_thing(self) -> GateConfig:
        if self.non_inferiority_margin is not None and self.min_gain > 0:
            raise ValueError(
                f"min_gain {self.min_gain:g} demands a gain, non_inferiority_margin allows a loss; set one of them"
            )
        return self

    @property
    def least_gain(self) -> float:
        """The gain that is tested against: below zero where a loss is allowed."""
        return self.min_gain if self.non_inferiority_margin is None else -self.non_inferiority_margin


class Contender(BaseModel):
    """A model that is compared."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    key: str
    """The key of its train artifact."""
    value: float | None = None
    """The primary metric on the test examples of this decision."""
    version: int | None = None
    """The version that it is already; None where it is not registered yet."""
    promoted_by: str | None = None
    """The key of the decision that made it the champion once; None where none did."""


class Champion(BaseModel):
    """The version in use when the decision was made."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    version: int
    """Its number."""
    key: str | None
    """The key of its train artifact; None where somebody else registered it."""
    value: float | None = None
    """The primary metric on the test examples of this decision; None where it was not scored."""
    obstacle: str | None = None
    """Why it cannot be scored on these examples; None where it can."""


class Baseline(BaseModel):
    """What anyone can reach."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """What it is."""
    value: float | None = None
    """The primary metric."""


class Case(BaseModel):
    """What a decision is about, besides the predictions."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    report: str
    """The key of the evaluate artifact."""
    examples: Examples
    """The kind of task, and its columns."""
    labels: tuple[str, ...]
    """The label set in id order."""
    primary_metric: str
    """The metric that the decision rests on."""
    greater_is_better: bool
    """Its better direction."""
    gate: GateConfig
    """What is demanded."""
    candidate: Contender
    """The new model."""
    champion: Champion | None
    """The version in use; None where there is none."""
    baseline: Baseline
    """What it is compared with where there is no champion."""

    @property
    def is_settled(self) -> bool:
        """Whether the candidate is the champion, or was it once: then there is nothing to be judged."""
        is_champion = self.champion is not None and self.champion.key == self.candidate.key
        return is_champion or self.candidate.promoted_by is not None

    @property
    def opponent(self) -> str | None:
        """Whose predictions the candidate's are compared with, as a person would say it; None where nobody's are."""
        if self.is_settled:
            return None
        if self.champion is not None:
            return f"the champion (version {self.champion.version})" if self.champion.obstacle is None else None
        return f"the baseline ({self.baseline.name})" if self.gate.require_baseline else None


class Decision(Case):
    """The document: the case, the numbers and the verdict."""

    verdict: Verdict
    """What follows."""
    reasons: tuple[str, ...]
    """Why, a sentence a reason."""
    comparison: Comparison | None
    """The candidate against the opponent; None where there is none."""
    slices: tuple[SliceFinding, ...] = ()
    """What is demanded on slices, and whether the candidate keeps it."""

    @property
    def case(self) -> Case:
        """What it is about, without what followed."""
        return Case.model_validate(self.model_dump(include=set(Case.model_fields)))


def make_decision(case: Case, candidate: pa.Table, other: pa.Table | None, slices: pa.Table) -> Decision:
    """Judge a candidate.

    Args:
        case: What the decision is about.
        candidate: Its prediction table.
        other: That of the opponent, if there is one.
        slices: Which of these rows are in which slice: a column of true/false each, beside `row_id`.

    Raises:
        DataError: `slice_floors` names a slice that there is not.
    """
    kind = find_kind(case.examples)
    ours = kind.measure(candidate, case.labels)
    value = round(compute_values(ours, [case.primary_metric])[case.primary_metric], DIGITS)
    case = _with_value(case, "candidate", value)
    if other is not None and not candidate["row_id"].equals(other["row_id"]):
        case = _with_obstacle(case, "it makes other examples of the test rows than the candidate does")
    if other is None or case.opponent is None:
        findings = _guard(case, candidate, None, slices)
        return _decide(case, _judge_alone(case), None, findings)
    comparison = compare(
        ours,
        kind.measure(other, case.labels),
        case.primary_metric,
        greater_is_better=case.greater_is_better,
        min_gain=case.gate.least_gain,
        alpha=case.gate.alpha,
    )
    case = _with_value(case, "baseline" if case.champion is None else "champion", comparison.other)
    findings = _guard(case, candidate, other, slices)
    return _decide(case, _judge_against(case, comparison), comparison, findings)


def check_floors(gate: GateConfig, slices: Sequence[str]) -> None:
    """Refuse a floor for a slice that there is not.

    Raises:
        DataError: Names the slices that there are.
    """
    for name in gate.slice_floors or {}:
        if name not in slices:
            raise DataError(
                f"gate.slice_floors: there is no slice {name!r}; there are {', '.join(map(repr, slices)) or 'none'}."
                f"{find_nearest(name, slices)}"
            )


def _guard(case: Case, candidate: pa.Table, other: pa.Table | None, slices: pa.Table) -> tuple[SliceFinding, ...]:
    kind, gate = find_kind(case.examples), case.gate
    rows = read_slices(slices)
    check_floors(gate, [*rows])
    rule = SliceRule(
        metric=case.primary_metric,
        greater_is_better=case.greater_is_better,
        max_loss=gate.max_slice_loss,
        floors=gate.slice_floors or {},
        alpha=gate.alpha,
        min_examples=gate.min_examples,
    )
    ours = {name: kind.measure(candidate.take(pa.array(found)), case.labels) for name, found in rows.items()}
    theirs = None
    if other is not None:
        theirs = {name: kind.measure(other.take(pa.array(found)), case.labels) for name, found in rows.items()}
    return guard_slices(ours, theirs, rule)


def _decide(
    case: Case, judged: tuple[Verdict, str], comparison: Comparison | None, findings: tuple[SliceFinding, ...]
) -> Decision:
    verdict, reason = judged
    broken = [_describe_broken(finding, case.primary_metric) for finding in findings if finding.is_broken]
    untested = dict.fromkeys(finding.slice for finding in findings if finding.p_value is None)
    why = f"fewer than {case.gate.min_examples} examples, or {case.primary_metric} is not defined"
    notes = [f"Slices that could not be tested ({why}): {', '.join(untested)}."] if untested else []
    return Decision(
        **dict(case),
        verdict="REJECT" if broken and verdict == "PROMOTE" else verdict,
        reasons=(reason, *broken, *notes),
        comparison=comparison,
        slices=findings,
    )


def _describe_broken(finding: SliceFinding, metric: str) -> str:
    return (
        f"On the slice {finding.slice!r} ({finding.num_examples:,} examples) {metric} is {finding.value:.4f}; the gate "
        f"demands {finding.demand}, which is not kept ({write_p_value(finding.p_value or 0)} after Holm's correction)."
    )


def _judge_alone(case: Case) -> tuple[Verdict, str]:
    value = f"{case.primary_metric} is {case.candidate.value:.4f}"
    if case.champion is not None and case.champion.key == case.candidate.key:
        return "HOLD", f"The candidate is the champion already (version {case.champion.version})."
    if case.candidate.promoted_by is not None:
        return "HOLD", _describe_former(case)
    if case.champion is None:
        return "PROMOTE", f"There is no champion yet; the candidate's {value}."
    return "HOLD", (
        f"The candidate's {value}; the champion (version {case.champion.version}) cannot be compared with it: "
        f"{case.champion.obstacle}. To make the candidate the champion all the same, promote it by hand."
    )


def _describe_former(case: Case) -> str:
    now = "there is none" if case.champion is None else f"it is version {case.champion.version}"
    return (
        f"The candidate was the champion (version {case.candidate.version}, by decision {case.candidate.promoted_by}) "
        f"and is not any more: now {now}. A gate promotes a candidate once; to make it the champion again, promote it "
        "by hand."
    )


def _judge_against(case: Case, found: Comparison) -> tuple[Verdict, str]:
    gate, numbers = case.gate, _describe(case, found)
    if found.num_examples < gate.min_examples:
        return "NEED-DATA", (
            f"{numbers}. {found.num_examples} test examples show nothing; gate.min_examples asks for "
            f"{gate.min_examples}."
        )
    if found.p_value <= gate.alpha:
        return "PROMOTE", f"{numbers}: {_name_claim(gate)} ({write_p_value(found.p_value)} by {found.method})."
    if found.p_worse <= gate.alpha:
        return "REJECT", f"{numbers}: it is worse ({write_p_value(found.p_worse)} by {found.method})."
    unproved = f"{numbers}: not shown to be {_name_claim(gate)} ({write_p_value(found.p_value)} by {found.method})"
    if found.num_needed is None or found.num_needed > MAX_NEEDED * found.num_examples:
        return "HOLD", f"{unproved}."
    return "NEED-DATA", (
        f"{unproved}. With {found.num_needed:,} test examples instead of {found.num_examples:,}, such a gain would be "
        f"shown with a chance of {POWER:.0%}."
    )


def _describe(case: Case, found: Comparison) -> str:
    direction = "equal" if found.gain == 0 else f"{'better' if found.gain > 0 else 'worse'} by {abs(found.gain):.4f}"
    start = "" if case.champion is not None else "There is no champion yet; "
    return (
        f"{start}{found.metric} {found.candidate:.4f} against {found.other:.4f} of {case.opponent} on "
        f"{found.num_examples:,} test examples, {direction} (95 % interval of the gain: {found.interval})"
    )


def _name_claim(gate: GateConfig) -> str:
    if gate.non_inferiority_margin is not None:
        return f"worse by less than the {gate.non_inferiority_margin:g} that the gate allows"
    return f"better by more than the {gate.min_gain:g} that the gate demands" if gate.min_gain else "better"


def write_p_value(p_value: float) -> str:
    """A p-value for people: beyond a millionth, nobody cares how small it is.

    Example:
        >>> write_p_value(0.0123), write_p_value(0.0)
        ('p = 0.012', 'p < 0.000001')
    """
    return f"p = {p_value:.2g}" if p_value >= LEAST_P_VALUE else "p < 0.000001"


def _with_value(case: Case, name: str, value: float) -> Case:
    contender: Any = getattr(case, name)
    return case.model_copy(update={name: contender.model_copy(update={"value": value})})


def _with_obstacle(case: Case, obstacle: str) -> Case:
    if case.champion is None:
        return case
    return case.model_copy(update={"champion": case.champion.model_copy(update={"obstacle": obstacle})})
