"""The decide stage: what it looks at, and that a decision stands."""

from __future__ import annotations

import json
import shutil

import pytest

from made_predictions import EXAMPLES, LABELS, make_predictions, make_splits, write_report
from tunesmith.evaluation import decide as module
from tunesmith.evaluation.decide import DECISION_FILE, decide, decide_again, derive_decide
from tunesmith.evaluation.evaluate import EvaluateConfig
from tunesmith.evaluation.gate import Decision, GateConfig
from tunesmith.evaluation.predictions import JudgedRows
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.lineage import Lineage, Training
from tunesmith.tracking.registry import RegisteredVersion

TRACKING = TrackingConfig(uri="sqlite:////home/mlflow.db", experiment="a")
REGISTRY = RegistryConfig(model_name="a")


def version(*, key="champion", number=3, kind="text-classification", labels=LABELS, decision=None, promoted_by=None):
    training = Training(kind=kind, base="base", labels=labels, lora=None, rows=None, seen=None, start=None)
    return RegisteredVersion(
        model_name="a", version=number, aliases=("champion",), candidate_key=key, primary_metric="accuracy", value=0.99,
        metrics={}, decision=decision, promoted_by=promoted_by, data_digest=None, mlflow_run_id="", created_unix=0.0,
        source="", lineage=Lineage(training=training, export="export", files={}),
    )  # fmt: skip


class Desk:
    """Where decisions are made; `champion` and `registered` are what the registry answers."""

    def __init__(self, folder):
        self.folder, self.store = folder, FolderStore(folder / "store")
        self.splits = make_splits(folder / "splits", self.store)
        self.champion = self.registered = None

    def report(self, accuracy, key="report"):
        folder = self.folder / "reports" / f"{key}-{accuracy}"
        folder.mkdir(parents=True, exist_ok=True)
        write_report(folder, accuracy, 0.5)
        facts = {
            "candidate": "candidate", "labels": [*LABELS], "metrics": {"accuracy": accuracy},
            "primary_metric": "accuracy", "greater_is_better": True,
            "baseline": {"name": "majority class", "metrics": {"accuracy": 0.5}},
        }  # fmt: skip
        return Ref(kind="evaluate", key=key, uri=str(folder), facts=facts)

    def know(self, key, accuracy):
        """Have the predictions of a model."""
        rows = JudgedRows(self.splits, "test", EXAMPLES, 64)
        return rows.predict(key, LABELS, lambda: make_predictions(accuracy), self.store)

    def arguments(self, report, gate=None, registry=REGISTRY, tracking=TRACKING):
        return report, self.splits, EXAMPLES, EvaluateConfig(), gate or GateConfig(), registry, tracking, self.store

    def decide(self, report, gate=None):
        return decide(*self.arguments(report, gate))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    made = Desk(tmp_path)
    monkeypatch.setattr(module, "find_champion", lambda *_: made.champion)
    monkeypatch.setattr(module, "find_version", lambda *_: made.registered)
    return made


def test_the_champion_is_judged_on_the_same_rows_and_not_by_its_old_number(desk):
    desk.champion = version()
    desk.know("champion", 0.8)
    decision = desk.decide(desk.report(0.9))
    assert decision.facts["verdict"] == "PROMOTE"
    assert decision.facts["champion"] == {"version": 3, "key": "champion", "value": 0.8, "obstacle": None}
    assert decision.facts["comparison"]["num_only_candidate"] == 10


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "text-generation"}, "it is for text-generation, the candidate for text-classification"),
        ({"labels": ("bad", "fair", "good")}, "it knows the labels 'bad', 'fair', 'good', the candidate 'bad', 'good'"),
        ({"key": None}, "it was not registered by this version of Tunesmith"),
    ],
)
def test_a_champion_that_cannot_be_compared_stays_and_the_reason_is_told(desk, changes, reason):
    desk.champion = version(**changes)
    decision = desk.decide(desk.report(1.0))
    assert decision.facts["verdict"] == "HOLD"
    assert reason in decision.facts["reasons"][0]
    assert "promote it by hand" in decision.facts["reasons"][0]


def test_a_champion_with_its_labels_in_another_order_is_compared(desk):
    desk.champion = version(labels=LABELS[::-1])
    rows = JudgedRows(desk.splits, "test", EXAMPLES, 64)
    rows.predict("champion", LABELS[::-1], lambda: make_predictions(0.8, labels=LABELS[::-1]), desk.store)
    gate = GateConfig(min_examples=1)
    found = desk.decide(desk.report(0.9), gate).facts
    assert (found["verdict"], found["comparison"]["num_only_candidate"] > 0) == ("PROMOTE", True)


def test_a_decision_stands_when_another_champion_comes(desk):
    first = desk.decide(desk.report(0.8))
    desk.champion = version()
    again = desk.decide(desk.report(0.8))
    assert again.is_cached
    assert (again.key, again.facts["verdict"]) == (first.key, "PROMOTE")


def test_another_report_another_gate_and_another_registry_are_decided_anew(desk):
    keys = {
        derive_decide(*desk.arguments(*arguments)).key
        for arguments in (
            (desk.report(0.8),),
            (desk.report(0.8, key="other"),),
            (desk.report(0.8), GateConfig(min_gain=0.1)),
            (desk.report(0.8), None, RegistryConfig(model_name="b")),
            (desk.report(0.8), None, REGISTRY, TrackingConfig(uri="http://server")),
        )
    }
    assert len(keys) == 5


def test_equal_decisions_have_one_key_and_different_ones_two(desk):
    def key(folder, accuracy):
        desk.store = FolderStore(desk.folder / folder)
        return desk.decide(desk.report(accuracy)).key

    assert key("a", 0.8) == key("b", 0.8)
    assert key("c", 0.9) != key("a", 0.8)


@pytest.mark.parametrize(
    ("promoted_by", "gate", "verdict"),
    [
        ("decision", GateConfig(), "PROMOTE"),
        (None, GateConfig(), "HOLD"),
        ("decision", GateConfig(min_gain=0.1), "HOLD"),
    ],
)
def test_a_lost_decision_is_taken_from_the_version_if_it_was_carried_out_for_this_gate(
    desk, promoted_by, gate, verdict
):
    earlier = desk.decide(desk.report(0.8))
    shutil.rmtree(desk.store.root)
    desk.registered = version(key="candidate", decision=earlier.facts, promoted_by=promoted_by)
    desk.champion = desk.registered
    assert desk.decide(desk.report(0.8), gate).facts["verdict"] == verdict


def test_a_decision_is_made_again_from_its_folder_alone(desk, monkeypatch):
    desk.champion = version()
    desk.know("champion", 0.8)
    made = desk.decide(desk.report(0.85))
    shutil.rmtree(desk.folder / "reports")
    monkeypatch.delattr(module, "find_champion")
    document = json.loads((made.folder / DECISION_FILE).read_bytes())
    again = decide_again(Decision.model_validate(document).case, made.folder)
    assert again.model_dump(mode="json") == document == made.facts
