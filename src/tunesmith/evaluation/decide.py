"""The decide stage: whether a candidate becomes the champion.

A decision, once made for a report, stands: the store remembers it by its request, and the registered version carries
it, so that a store which lost it does not judge the champion against itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tunesmith.evaluation.champion import find_obstacle, predict_with
from tunesmith.evaluation.evaluate import BASELINE, CANDIDATE, SLICES, EvaluateConfig
from tunesmith.evaluation.gate import Baseline, Case, Champion, Contender, Decision, GateConfig, make_decision
from tunesmith.evaluation.predictions import JudgedRows, read_predictions
from tunesmith.kinds import Examples, find_kind
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig, registry_identity
from tunesmith.tracking.registry import RegisteredVersion, find_champion, find_version

DECISION_FILE = "decision.json"
OURS, THEIRS = "candidate.parquet", "other.parquet"
"""The predictions that a decision rests on; the second where there is an opponent."""


def derive_decide(
    report: Ref,
    splits: Ref,
    examples: Examples,
    evaluate: EvaluateConfig,
    gate: GateConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: FolderStore,
) -> Derivation:
    """Describe the decision on the candidate that a report is about.

    Args:
        report: The evaluate artifact.
        splits: The split artifact, on whose test rows the champion is scored as well.
        examples: The kind of task, and its columns.
        evaluate: How the candidate was judged.
        gate: What is demanded.
        registry: Where the champion is.
        tracking: Where MLflow is.
        store: Where predictions are kept.
    """
    rows = JudgedRows(splits, "test", examples, evaluate.batch_size)
    deciding = _Deciding(report, rows, gate, registry, tracking, store)
    return Derivation(
        kind="decide",
        ingredients=compose_ingredients(
            config={"gate": gate.key_fields(), **registry_identity(registry, tracking)},
            inputs={"report": report.key},
            # A decision that was made stands when this code changes.
            code=(),
        ),
        build=deciding.build,
        address=lambda folder: compute_key(json.loads((folder / DECISION_FILE).read_bytes())),
    )


def decide(
    report: Ref,
    splits: Ref,
    examples: Examples,
    evaluate: EvaluateConfig,
    gate: GateConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: FolderStore,
) -> Ref:
    """Decide whether the candidate of a report becomes the champion.

    Returns:
        decision.json, and the predictions that it rests on: all that it takes to decide again.

    Raises:
        ModelError: The champion's files are gone or damaged.
        TunesmithError: MLflow cannot be reached.
    """
    return store.ensure(derive_decide(report, splits, examples, evaluate, gate, registry, tracking, store))


@dataclass(frozen=True)
class _Deciding:
    """What a decision is made of."""

    report: Ref
    rows: JudgedRows
    gate: GateConfig
    registry: RegistryConfig
    tracking: TrackingConfig
    store: FolderStore

    def build(self, folder: Path) -> Facts:
        (folder / OURS).write_bytes((self.report.folder / CANDIDATE).read_bytes())
        (folder / SLICES).write_bytes((self.report.folder / SLICES).read_bytes())
        document = self._find_earlier()
        if document is None:
            case = self._describe(find_champion(self.registry, self.tracking), folder)
            document = decide_again(case, folder).model_dump(mode="json")
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / DECISION_FILE).write_text(text, encoding="utf-8")
        return document

    def _describe(self, champion: RegisteredVersion | None, folder: Path) -> Case:
        """What is to be decided; puts the opponent's predictions in the folder."""
        facts = self.report.facts
        case = Case(
            report=self.report.key,
            examples=self.rows.examples,
            labels=tuple(facts["labels"]),
            primary_metric=facts["primary_metric"],
            greater_is_better=facts["greater_is_better"],
            gate=self.gate,
            candidate=Contender(key=facts["candidate"]),
            champion=None if champion is None else self._look_at(champion),
            baseline=Baseline(name=facts["baseline"]["name"]),
        )
        if case.opponent is None:
            return case
        if champion is None:
            (folder / THEIRS).write_bytes((self.report.folder / BASELINE).read_bytes())
        else:
            predicted = predict_with(champion, self.rows, self.store, self.tracking)
            kind = find_kind(self.rows.examples)
            pq.write_table(read_predictions(predicted, kind, case.labels), folder / THEIRS)
        return case

    def _look_at(self, champion: RegisteredVersion) -> Champion:
        obstacle = find_obstacle(champion, self.rows, tuple(self.report.facts["labels"]))
        return Champion(version=champion.version, key=champion.candidate_key, obstacle=obstacle)

    def _find_earlier(self) -> dict[str, Any] | None:
        version = find_version(self.report.facts["candidate"], self.registry, self.tracking)
        if version is None or version.decision is None:
            return None
        if version.decision["verdict"] == "PROMOTE" and version.promoted_by is None:
            return None  # never carried out: another candidate became the champion first
        asked = {"report": self.report.key, "gate": self.gate.model_dump(mode="json")}
        return dict(version.decision) if _covers(version.decision, asked) else None


def decide_again(case: Case, folder: Path) -> Decision:
    """Decide a case by the predictions in a folder."""
    ours, slices = pq.read_table(folder / OURS), pq.read_table(folder / SLICES)
    return make_decision(case, ours, pq.read_table(folder / THEIRS) if (folder / THEIRS).exists() else None, slices)


def _covers(decision: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(decision.get(name) == value for name, value in asked.items())
