"""The decide stage: what it looks at, and that a decision stands."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from made_predictions import EXAMPLES, LABELS, make_predictions, make_splits, write_report
from tunesmith.errors import TunesmithError, UserError
from tunesmith.evaluation import decide as module
from tunesmith.evaluation.decide import DECISION_FILE, THEIRS, decide, decide_again, derive_decide
from tunesmith.evaluation.evaluate import EvaluateConfig
from tunesmith.evaluation.gate import Decision
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.predictions import JudgedRows
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.lineage import Lineage, Training
from tunesmith.tracking.registry import RegisteredVersion
from tunesmith.tracking.standing import Standing

TRACKING = TrackingConfig(uri="sqlite:////home/mlflow.db", experiment="a")
REGISTRY = RegistryConfig(model_name="a")


def version(
    *,
    key="champion",
    number=3,
    kind="text-classification",
    labels=LABELS,
    decision=None,
    promoted_by=None,
    temperature=None,
):
    training = Training(kind=kind, base="base", labels=labels, lora=None, rows=None, seen=None, start=None)
    return RegisteredVersion(
        model_name="a", version=number, aliases=("champion",), candidate_key=key, primary_metric="accuracy", value=0.99,
        metrics={}, decision=decision, promoted_by=promoted_by, data_digest=None, mlflow_run_id="", created_unix=0.0,
        source="", lineage=Lineage(training=training, export="export", files={}, temperature=temperature),
    )  # fmt: skip


class Desk:
    """Where decisions are made; `champion` and `registered` are what the registry answers."""

    def __init__(self, folder):
        self.folder, self.store = folder, FolderStore(folder / "store")
        self.splits = make_splits(folder / "splits", self.store)
        self.champion = self.registered = None
        measured = {"size_bytes": 1000, "latency_seconds": {"1": 0.02, "32": 0.1}}
        self.exported = Ref(kind="export", key="export", uri="", facts={"formats": {"safetensors": measured}})

    @property
    def standing(self):
        champion, registered = self.champion, self.registered
        return Standing(
            champion=champion and champion.version,
            champion_key=champion and champion.candidate_key,
            version=registered and registered.version,
            promoted_by=registered and registered.promoted_by,
        )

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
        places = (registry, tracking, self.store)
        return report, self.splits, self.exported, EXAMPLES, EvaluateConfig(), gate or GateConfig(), *places

    def decide(self, report, gate=None):
        return decide(*self.arguments(report, gate))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    made = Desk(tmp_path)
    monkeypatch.setattr(module, "find_champion", lambda *_: made.champion)
    monkeypatch.setattr(module, "find_version", lambda *_: made.registered)
    monkeypatch.setattr(module, "find_standing", lambda *_: made.standing)
    return made


def test_the_champion_is_judged_on_the_same_rows_and_not_by_its_old_number(desk):
    desk.champion = version()
    desk.know("champion", 0.8)
    decision = desk.decide(desk.report(0.9))
    assert decision.facts["verdict"] == "PROMOTE"
    assert decision.facts["champion"] == {"version": 3, "key": "champion", "value": 0.8, "obstacle": None}
    assert decision.facts["comparison"]["num_only_candidate"] == 10


def test_a_champion_that_is_served_with_a_temperature_is_judged_with_it(desk):
    desk.champion = version(temperature=2.0)
    raw = pq.read_table(desk.know("champion", 0.8).folder / "predictions.parquet")
    judged = pq.read_table(desk.decide(desk.report(0.9)).folder / THEIRS)
    assert judged["logits"].to_pylist() == [[logit / 2 for logit in row] for row in raw["logits"].to_pylist()]
    assert judged["prediction"] == raw["prediction"]


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


def test_a_decision_stands_until_another_champion_comes_and_is_found_again_when_that_one_goes(desk):
    first = desk.decide(desk.report(0.8))
    assert desk.decide(desk.report(0.8)).is_cached
    desk.champion = version()
    desk.know("champion", 0.9)
    second = desk.decide(desk.report(0.8))
    assert (second.is_cached, second.facts["verdict"]) == (False, "REJECT")
    desk.champion = None
    assert desk.decide(desk.report(0.8)).key == first.key


def test_a_candidate_that_is_the_champion_is_held_and_so_is_one_that_was_it(desk):
    promoted = desk.decide(desk.report(0.8))
    desk.champion = desk.registered = version(
        key="candidate", number=4, decision=dict(promoted.facts), promoted_by=promoted.key
    )
    held = desk.decide(desk.report(0.8)).facts
    assert (held["verdict"], held["reasons"]) == ("HOLD", ["The candidate is the champion already (version 4)."])
    desk.champion = version(number=3)
    former = desk.decide(desk.report(0.8)).facts
    assert former["verdict"] == "HOLD"
    assert f"was the champion (version 4, by decision {promoted.key})" in former["reasons"][0]
    assert "now it is version 3" in former["reasons"][0]
    assert Decision.read(former).is_settled


def test_a_champion_that_comes_while_it_is_decided_is_an_error_that_can_be_tried_again(desk, monkeypatch):
    monkeypatch.setattr(module, "find_standing", lambda *_: Standing(champion=2, champion_key="other"))
    desk.champion = version()
    with pytest.raises(TunesmithError, match=r"was version 2, and is version 3 since a moment ago.*again") as caught:
        desk.decide(desk.report(0.8))
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_size_bytes": 999}, "The exported model has 1,000 bytes; gate.max_size_bytes allows 999."),
        ({"max_latency_seconds": 0.01}, "One example takes 0.0200 s; gate.max_latency_seconds allows 0.01."),
        ({"max_calibration_error": 0.01}, "gate.max_calibration_error allows 0.01."),
        ({"max_size_bytes": 1000, "max_latency_seconds": 0.02, "max_calibration_error": 1.0}, None),
    ],
)
def test_a_better_candidate_that_exceeds_a_limit_is_rejected_and_the_limit_is_named(desk, limits, reason):
    decision = desk.decide(desk.report(0.9), GateConfig(**limits))
    assert decision.facts["verdict"] == ("PROMOTE" if reason is None else "REJECT")
    assert reason is None or reason in decision.facts["reasons"][-1]
    is_measured = limits.keys() & {"max_size_bytes", "max_latency_seconds"}
    assert decision.facts["serving"] == ({"size_bytes": 1000, "latency_seconds": 0.02} if is_measured else None)
    again = decide_again(Decision.read(decision.facts).case, decision.folder)
    assert again.model_dump(mode="json") == decision.facts


def test_another_export_is_decided_anew_only_where_the_gate_limits_it(desk):
    def key(gate, export):
        desk.exported = desk.exported.model_copy(update={"key": export})
        return derive_decide(*desk.arguments(desk.report(0.8), gate)).key

    assert key(GateConfig(), "a") == key(GateConfig(), "b")
    assert key(GateConfig(max_size_bytes=5), "a") != key(GateConfig(max_size_bytes=5), "b")


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
    ("changes", "gate", "is_taken"),
    [
        ({}, GateConfig(), True),
        ({"promoted_by": "decision"}, GateConfig(), False),
        ({}, GateConfig(min_gain=0.1), False),
    ],
)
def test_a_lost_decision_is_taken_from_the_version_if_it_is_about_what_is_asked(desk, changes, gate, is_taken):
    earlier = {**desk.decide(desk.report(0.8)).facts, "reasons": ["As it was."]}
    shutil.rmtree(desk.store.root)
    desk.splits = make_splits(desk.folder / "splits", desk.store)
    desk.registered = version(key="candidate", decision=earlier, **changes)
    assert (desk.decide(desk.report(0.8), gate).facts["reasons"] == ["As it was."]) == is_taken


def test_a_decision_is_made_again_from_its_folder_alone(desk, monkeypatch):
    desk.champion = version()
    desk.know("champion", 0.8)
    made = desk.decide(desk.report(0.85))
    shutil.rmtree(desk.folder / "reports")
    monkeypatch.delattr(module, "find_champion")
    document = json.loads((made.folder / DECISION_FILE).read_bytes())
    again = decide_again(Decision.read(document).case, made.folder)
    assert again.model_dump(mode="json") == document == made.facts
