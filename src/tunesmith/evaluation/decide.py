"""The decide stage: whether a candidate becomes the champion.

A decision stands as long as the registry is as it was: the store remembers it by its request, and the registered
version carries it, for a store that lost it. When another candidate has become the champion since, it is made anew;
of a candidate that is the champion, or was it once, there is nothing to decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tunesmith.errors import TunesmithError
from tunesmith.evaluation.case import Baseline, Case, Champion, Contender, Serving
from tunesmith.evaluation.champion import find_obstacle, predict_with
from tunesmith.evaluation.evaluate import BASELINE, CANDIDATE, SLICES, EvaluateConfig
from tunesmith.evaluation.gate import Decision, make_decision
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.predictions import JudgedRows, read_predictions
from tunesmith.kinds import Examples, find_kind
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig, registry_identity
from tunesmith.tracking.registry import RegisteredVersion, find_champion, find_version
from tunesmith.tracking.standing import Standing, find_standing

DECISION_FILE = "decision.json"
OURS, THEIRS = "candidate.parquet", "other.parquet"
"""The predictions that a decision rests on; the second where there is an opponent."""


def derive_decide(
    report: Ref,
    splits: Ref,
    exported: Ref,
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
        exported: The export artifact, where the gate limits what serving may take.
        examples: The kind of task, and its columns.
        evaluate: How the candidate was judged.
        gate: What is demanded.
        registry: Where the champion is.
        tracking: Where MLflow is.
        store: Where predictions are kept.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    rows = JudgedRows(splits, "test", examples, evaluate.batch_size)
    standing = find_standing(report.facts["candidate"], registry, tracking)
    serving = _find_serving(exported) if gate.limits_serving else None
    deciding = _Deciding(report, rows, standing, serving, gate, registry, tracking, store)
    return Derivation(
        kind="decide",
        ingredients=compose_ingredients(
            config={
                "gate": gate.key_fields(),
                **registry_identity(registry, tracking),
                "standing": standing.model_dump(exclude={"version"}),
            },
            inputs={"report": report.key, **({"export": exported.key} if gate.limits_serving else {})},
            # A decision that was made stands when this code changes.
            code=(),
        ),
        build=deciding.build,
        address=lambda folder: compute_key(json.loads((folder / DECISION_FILE).read_bytes())),
    )


def decide(
    report: Ref,
    splits: Ref,
    exported: Ref,
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
        TunesmithError: MLflow cannot be reached, or there is another champion all of a sudden; to be tried again.
    """
    return store.ensure(derive_decide(report, splits, exported, examples, evaluate, gate, registry, tracking, store))


@dataclass(frozen=True)
class _Deciding:
    """What a decision is made of."""

    report: Ref
    rows: JudgedRows
    standing: Standing
    serving: Serving | None
    gate: GateConfig
    registry: RegistryConfig
    tracking: TrackingConfig
    store: FolderStore

    def build(self, folder: Path) -> Facts:
        (folder / OURS).write_bytes((self.report.folder / CANDIDATE).read_bytes())
        (folder / SLICES).write_bytes((self.report.folder / SLICES).read_bytes())
        document = self._find_earlier()
        if document is None:
            case = self._describe()
            if not case.is_settled:
                case = self._compare(case, folder)
            document = decide_again(case, folder).model_dump(mode="json")
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / DECISION_FILE).write_text(text, encoding="utf-8")
        return document

    def _find_champion(self) -> RegisteredVersion | None:
        """The champion, which has to be the one that the request is about."""
        champion = find_champion(self.registry, self.tracking)
        number = None if champion is None else champion.version
        if number != self.standing.champion:
            raise TunesmithError(
                f"models:/{self.registry.model_name}: the champion was version {self.standing.champion}, and is "
                f"version {number} since a moment ago. Nothing is decided; run again."
            )
        return champion

    def _describe(self) -> Case:
        """What is to be decided, without a look at the champion."""
        facts, standing = self.report.facts, self.standing
        champion = None
        if standing.champion is not None:
            champion = Champion(version=standing.champion, key=standing.champion_key)
        return Case(
            report=self.report.key,
            examples=self.rows.examples,
            labels=tuple(facts["labels"]),
            primary_metric=facts["primary_metric"],
            greater_is_better=facts["greater_is_better"],
            gate=self.gate,
            candidate=Contender(key=facts["candidate"], version=standing.version, promoted_by=standing.promoted_by),
            champion=champion,
            baseline=Baseline(name=facts["baseline"]["name"]),
            serving=self.serving,
        )

    def _compare(self, case: Case, folder: Path) -> Case:
        """Look at the champion, if there is one, and put the opponent's predictions in the folder."""
        champion = self._find_champion()
        if champion is not None:
            case = case.model_copy(update={"champion": self._look_at(champion)})
        if case.opponent is None:
            return case
        if champion is None:
            (folder / THEIRS).write_bytes((self.report.folder / BASELINE).read_bytes())
        else:
            predicted = predict_with(champion, self.rows, self.store, self.tracking)
            kind = find_kind(self.rows.examples)
            theirs = read_predictions(predicted, kind, case.labels)
            temperature = None if champion.lineage is None else champion.lineage.temperature
            if temperature is not None:
                theirs = kind.scale(theirs, case.labels, temperature)
            pq.write_table(theirs, folder / THEIRS)
        return case

    def _look_at(self, champion: RegisteredVersion) -> Champion:
        obstacle = find_obstacle(champion, self.rows, tuple(self.report.facts["labels"]))
        return Champion(version=champion.version, key=champion.candidate_key, obstacle=obstacle)

    def _find_earlier(self) -> dict[str, Any] | None:
        """The decision that the registered version carries, if it is about what is asked and the present champion."""
        if self.standing.version is None or self.standing.promoted_by is not None:
            return None
        version = find_version(self.report.facts["candidate"], self.registry, self.tracking)
        if version is None or version.decision is None:
            return None
        champion = version.decision["champion"]
        asked = {
            "report": self.report.key,
            "gate": self.gate.model_dump(mode="json"),
            "serving": None if self.serving is None else self.serving.model_dump(),
        }
        is_same_champion = (None if champion is None else champion["version"]) == self.standing.champion
        return dict(version.decision) if is_same_champion and _covers(version.decision, asked) else None


def _find_serving(exported: Ref) -> Serving:
    formats = exported.facts["formats"]
    measured = formats["safetensors"] if "safetensors" in formats else formats["adapter"]  # registered as that alone
    return Serving(size_bytes=measured["size_bytes"], latency_seconds=measured["latency_seconds"]["1"])


def decide_again(case: Case, folder: Path) -> Decision:
    """Decide a case by the predictions in a folder."""
    ours, slices = pq.read_table(folder / OURS), pq.read_table(folder / SLICES)
    return make_decision(case, ours, pq.read_table(folder / THEIRS) if (folder / THEIRS).exists() else None, slices)


def _covers(decision: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(decision.get(name) == value for name, value in asked.items())
