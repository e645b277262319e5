"""The gate: from what two models predicted for the same examples to a verdict, with nothing else looked at.

So a decision can be made again from its document and the two tables, anywhere and at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from tunesmith.data.nearest import find_nearest
from tunesmith.errors import DataError
from tunesmith.evaluation.case import Case
from tunesmith.evaluation.comparison import DIGITS, POWER, Comparison, compare
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.intervals import compute_values
from tunesmith.evaluation.limits import find_exceeded
from tunesmith.evaluation.slice_guard import SliceFinding, SliceRule, guard_slices, read_slices
from tunesmith.kinds import find_kind

Verdict = Literal["PROMOTE", "HOLD", "REJECT", "NEED-DATA"]

LEAST_P_VALUE = 1e-6
MAX_NEEDED = 10
"""How many times the examples there are may be asked for; a gain that takes more to show is too small to matter."""


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

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Decision:
        """The decision of a document of JSON values, in which a tuple is a list.

        Raises:
            ValidationError: It is no decision.
        """
        return cls.model_validate_json(json.dumps(document))

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
        return _decide(case, _judge_alone(case, ours.num_examples), None, findings, find_exceeded(case, ours))
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
    return _decide(case, _judge_against(case, comparison), comparison, findings, find_exceeded(case, ours))


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
    case: Case,
    judged: tuple[Verdict, str],
    comparison: Comparison | None,
    findings: tuple[SliceFinding, ...],
    limits: Iterable[str],
) -> Decision:
    verdict, reason = judged
    broken = [_describe_broken(finding, case.primary_metric) for finding in findings if finding.is_broken] + [*limits]
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


def _judge_alone(case: Case, num_examples: int) -> tuple[Verdict, str]:
    value = f"{case.primary_metric} is {case.candidate.value:.4f}"
    if case.champion is not None and case.champion.key == case.candidate.key:
        return "HOLD", f"The candidate is the champion already (version {case.champion.version})."
    if case.candidate.promoted_by is not None:
        return "HOLD", _describe_former(case)
    if case.champion is None:
        alone = f"There is no champion yet; the candidate's {value}."
        too_few = _describe_too_few(case.gate, num_examples)
        return ("PROMOTE", alone) if too_few is None else ("NEED-DATA", f"{alone} {too_few}")
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
    too_few = _describe_too_few(gate, found.num_examples)
    if too_few is not None:
        return "NEED-DATA", f"{numbers}. {too_few}"
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


def _describe_too_few(gate: GateConfig, num_examples: int) -> str | None:
    if num_examples >= gate.min_examples:
        return None
    return f"{num_examples} test examples show nothing; gate.min_examples asks for {gate.min_examples}."


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
