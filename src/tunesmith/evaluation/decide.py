"""The decide stage: whether a candidate becomes the champion.

A decision, once made for a report, stands: the store remembers it by its request, and the registered version carries
it, so that a store which lost it does not judge the champion against itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig, registry_identity
from tunesmith.tracking.registry import RegisteredVersion, find_champion, find_version

DECISION_FILE = "decision.json"

Verdict = Literal["PROMOTE", "HOLD"]
Decision = dict[str, Any]
"""The decision document, JSON values: the verdict, its reasons and every number behind it."""


class GateConfig(Section):
    """What a candidate must do to become the champion."""

    min_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The gain over the champion that is not enough yet, in the primary metric's own unit."""
    require_baseline: bool = True
    """Whether it must beat the baseline that anyone can reach, when there is no champion yet to beat."""


def derive_decide(report: Ref, gate: GateConfig, registry: RegistryConfig, tracking: TrackingConfig) -> Derivation:
    """Describe the decision on the candidate that a report is about."""

    def build(folder: Path) -> Facts:
        decision = _find_earlier(report, gate, registry, tracking)
        if decision is None:
            decision = judge(report, gate, find_champion(registry, tracking))
        text = json.dumps(decision, indent=1, ensure_ascii=False)
        (folder / DECISION_FILE).write_text(text, encoding="utf-8")
        return decision

    return Derivation(
        kind="decide",
        ingredients=compose_ingredients(
            config={"gate": gate.key_fields(), **registry_identity(registry, tracking)},
            inputs={"report": report.key},
            # A decision that was made stands when this code changes.
            code=(),
        ),
        build=build,
        address=lambda folder: compute_key(json.loads((folder / DECISION_FILE).read_bytes())),
    )


def decide(
    report: Ref, gate: GateConfig, registry: RegistryConfig, tracking: TrackingConfig, store: FolderStore
) -> Ref:
    """Decide whether the candidate of a report becomes the champion.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    return store.ensure(derive_decide(report, gate, registry, tracking))


def judge(report: Ref, gate: GateConfig, champion: RegisteredVersion | None) -> Decision:
    """Compare a candidate with the champion, or where there is none with the baseline.

    Args:
        report: The evaluate artifact: its facts hold the candidate's key and the metrics.
        gate: What is demanded.
        champion: The version in use.
    """
    facts = report.facts
    primary = str(facts["primary_metric"])
    document: Decision = {
        "report": report.key,
        "primary_metric": primary,
        "greater_is_better": bool(facts["greater_is_better"]),
        "min_gain": gate.min_gain,
        "require_baseline": gate.require_baseline,
        "candidate": {"key": facts["candidate"], "value": _number(facts["metrics"][primary])},
        "baseline": {"name": facts["baseline"]["name"], "value": _number(facts["baseline"]["metrics"].get(primary))},
        "champion": None if champion is None else _describe(champion),
    }
    verdict, reason = _compare(document, champion)
    return {"verdict": verdict, "reasons": [reason], **document}


def _compare(document: Decision, champion: RegisteredVersion | None) -> tuple[Verdict, str]:
    metric, value = document["primary_metric"], document["candidate"]["value"]
    if champion is not None and champion.candidate_key == document["candidate"]["key"]:
        return "HOLD", f"The candidate is the champion already (version {champion.version})."
    if value is None:
        return "HOLD", f"The candidate's {metric} is not a number."
    if champion is None:
        return _compare_with_baseline(document)
    if champion.primary_metric != metric:
        theirs = champion.primary_metric or "no metric that Tunesmith knows"
        return "HOLD", f"The candidate was judged by {metric}, the champion (version {champion.version}) by {theirs}."
    return _compare_with_champion(document, champion)


def _compare_with_baseline(document: Decision) -> tuple[Verdict, str]:
    metric, value = document["primary_metric"], document["candidate"]["value"]
    baseline, name = document["baseline"]["value"], document["baseline"]["name"]
    if not document["require_baseline"]:
        return "PROMOTE", f"There is no champion yet; the candidate's {metric} is {value:.4f}."
    if baseline is None:
        return "HOLD", f"There is no champion yet, and the baseline ({name}) has no {metric} to beat."
    numbers = f"{baseline:.4f} of the baseline ({name})"
    if _gain(value, baseline, document) > 0:
        return "PROMOTE", f"There is no champion yet, and {metric} {value:.4f} beats the {numbers}."
    return "HOLD", f"There is no champion yet, but {metric} {value:.4f} does not beat the {numbers}."


def _compare_with_champion(document: Decision, champion: RegisteredVersion) -> tuple[Verdict, str]:
    metric, value, old = document["primary_metric"], document["candidate"]["value"], document["champion"]["value"]
    if old is None:
        return "HOLD", f"The champion's {metric} (version {champion.version}) is not a number."
    gain, min_gain = _gain(value, old, document), document["min_gain"]
    numbers = f"{metric} {value:.4f} against {old:.4f} of the champion (version {champion.version})"
    if gain > min_gain:
        return "PROMOTE", f"{numbers} is better by {gain:.4f}, more than the {min_gain:g} that the gate demands."
    if gain > 0:
        return "HOLD", f"{numbers} is better by {gain:.4f}, not more than the {min_gain:g} that the gate demands."
    return "HOLD", f"{numbers} is {'no better' if gain == 0 else f'worse by {-gain:.4f}'}."


def _gain(value: float, other: float, document: Decision) -> float:
    # Decimal noise must not pass for a gain: 0.87 - 0.86 is 0.010000000000000009, no more than 0.01.
    difference = value - other if document["greater_is_better"] else other - value
    return round(difference, 12)


def _describe(champion: RegisteredVersion) -> dict[str, Any]:
    value = None if champion.value is None else _number(champion.value)
    return {"version": champion.version, "key": champion.candidate_key, "value": value}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _find_earlier(report: Ref, gate: GateConfig, registry: RegistryConfig, tracking: TrackingConfig) -> Decision | None:
    version = find_version(report.facts["candidate"], registry, tracking)
    if version is None or version.decision is None:
        return None
    if version.decision["verdict"] == "PROMOTE" and version.promoted_by is None:
        return None  # never carried out: another candidate became the champion first
    asked = {"report": report.key, **gate.key_fields()}
    return dict(version.decision) if _covers(version.decision, asked) else None


def _covers(decision: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(decision.get(name) == value for name, value in asked.items())
