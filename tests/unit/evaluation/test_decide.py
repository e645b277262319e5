"""Whether a candidate becomes the champion."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from tunesmith.evaluation import decide as module
from tunesmith.evaluation.decide import GateConfig, decide, derive_decide, judge
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.registry import RegisteredVersion

TRACKING = TrackingConfig(uri="sqlite:////home/mlflow.db", experiment="a")
REGISTRY = RegistryConfig(model_name="a")


def report(value, *, baseline=0.5, metric="accuracy", greater_is_better=True, key="report"):
    facts = {
        "candidate": "candidate",
        "metrics": {metric: value},
        "primary_metric": metric,
        "greater_is_better": greater_is_better,
        "baseline": {"name": "majority class", "metrics": {metric: baseline}},
    }
    return Ref(kind="evaluate", key=key, uri="", facts=facts)


def champion(value, *, key="champion", metric="accuracy", version=3, decision=None, promoted_by=None):
    return RegisteredVersion(
        model_name="a", version=version, aliases=("champion",), candidate_key=key, primary_metric=metric, value=value,
        metrics={}, decision=decision, promoted_by=promoted_by, data_digest=None, mlflow_run_id="", created_unix=0.0,
        source="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "gate", "against", "verdict", "reason"),
    [
        (0.8, GateConfig(), None, "PROMOTE", "0.8000 beats the 0.5000 of the baseline (majority class)"),
        (0.5, GateConfig(), None, "HOLD", "0.5000 does not beat the 0.5000 of the baseline"),
        (0.4, GateConfig(require_baseline=False), None, "PROMOTE", "the candidate's accuracy is 0.4000"),
        (0.81, GateConfig(), champion(0.8), "PROMOTE", "0.8100 against 0.8000 of the champion (version 3) is better"),
        (0.8, GateConfig(), champion(0.8), "HOLD", "is no better"),
        (0.7, GateConfig(), champion(0.8), "HOLD", "is worse by 0.1000"),
        (0.87, GateConfig(min_gain=0.01), champion(0.86), "HOLD", "by 0.0100, not more than the 0.01 that the gate"),
        (0.88, GateConfig(min_gain=0.01), champion(0.86), "PROMOTE", "by 0.0200, more than the 0.01 that the gate"),
        (0.9, GateConfig(), champion(0.8, key="candidate"), "HOLD", "is the champion already (version 3)"),
        (0.9, GateConfig(), champion(0.8, metric="f1"), "HOLD", "judged by accuracy, the champion (version 3) by f1"),
        (0.9, GateConfig(), champion(None, metric=None, key=None), "HOLD", "by no metric that Tunesmith knows"),
        (math.nan, GateConfig(), champion(0.8), "HOLD", "accuracy is not a number"),
        (math.nan, GateConfig(require_baseline=False), None, "HOLD", "accuracy is not a number"),
        (0.9, GateConfig(), champion(math.nan), "HOLD", "champion's accuracy (version 3) is not a number"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_numbers_and_says_so(value, gate, against, verdict, reason):
    decision = judge(report(value), gate, against)
    assert decision["verdict"] == verdict
    assert reason in decision["reasons"][0]


def test_where_smaller_is_better_smaller_wins():
    def verdict(value, against):
        perplexity = report(value, baseline=20.0, metric="perplexity", greater_is_better=False)
        return judge(perplexity, GateConfig(), against)["verdict"]

    assert verdict(10.0, None) == "PROMOTE"
    assert verdict(30.0, None) == "HOLD"
    assert verdict(10.0, champion(12.0, metric="perplexity")) == "PROMOTE"
    assert verdict(13.0, champion(12.0, metric="perplexity")) == "HOLD"


def test_a_candidate_without_a_baseline_to_beat_is_held():
    decision = judge(report(0.9, baseline=None), GateConfig(), None)
    assert decision["verdict"] == "HOLD"
    assert "has no accuracy to beat" in decision["reasons"][0]


def test_the_document_holds_every_number_behind_the_verdict():
    decision = judge(report(0.81), GateConfig(min_gain=0.005), champion(0.8))
    assert {name: decision[name] for name in ("primary_metric", "greater_is_better", "min_gain")} == {
        "primary_metric": "accuracy",
        "greater_is_better": True,
        "min_gain": 0.005,
    }
    assert decision["candidate"] == {"key": "candidate", "value": 0.81}
    assert decision["champion"] == {"version": 3, "key": "champion", "value": 0.8}
    assert decision["baseline"] == {"name": "majority class", "value": 0.5}


@pytest.mark.parametrize("min_gain", [-0.1, math.nan, math.inf])
def test_a_gain_that_cannot_be_demanded_is_refused(min_gain):
    with pytest.raises(ValidationError):
        GateConfig(min_gain=min_gain)


@pytest.fixture
def registry(monkeypatch):
    """What the registry answers: set `registry["champion"]` or `registry["version"]`."""
    answers = {"champion": None, "version": None}
    monkeypatch.setattr(module, "find_champion", lambda *_: answers["champion"])
    monkeypatch.setattr(module, "find_version", lambda *_: answers["version"])
    return answers


def test_a_decision_stands_when_another_champion_comes(tmp_path, registry):
    store = FolderStore(tmp_path)
    first = decide(report(0.8), GateConfig(), REGISTRY, TRACKING, store)
    registry["champion"] = champion(0.9)
    again = decide(report(0.8), GateConfig(), REGISTRY, TRACKING, store)
    assert again.is_cached
    assert (again.key, again.facts["verdict"]) == (first.key, "PROMOTE")


def test_another_report_another_gate_and_another_registry_are_decided_anew():
    keys = {
        derive_decide(report(0.8), GateConfig(), REGISTRY, TRACKING).key,
        derive_decide(report(0.8, key="other"), GateConfig(), REGISTRY, TRACKING).key,
        derive_decide(report(0.8), GateConfig(min_gain=0.1), REGISTRY, TRACKING).key,
        derive_decide(report(0.8), GateConfig(), RegistryConfig(model_name="b"), TRACKING).key,
        derive_decide(report(0.8), GateConfig(), REGISTRY, TrackingConfig(uri="http://server")).key,
    }
    assert len(keys) == 5


def test_equal_decisions_have_one_key_and_different_ones_two(tmp_path, registry):
    def key(folder, value):
        return decide(report(value), GateConfig(), REGISTRY, TRACKING, FolderStore(tmp_path / folder)).key

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
    tmp_path, registry, promoted_by, gate, verdict
):
    earlier = judge(report(0.8), GateConfig(), None)
    registry["version"] = champion(0.8, key="candidate", decision=earlier, promoted_by=promoted_by)
    registry["champion"] = champion(0.8, key="candidate")
    assert decide(report(0.8), gate, REGISTRY, TRACKING, FolderStore(tmp_path)).facts["verdict"] == verdict
