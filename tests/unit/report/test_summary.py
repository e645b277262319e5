"""The summary of a run."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finished_run import FACTS, STORE, make_refs
from tunesmith.report.summary import RunSummary, describe_steps, summarize_run


@pytest.fixture
def summary() -> RunSummary:
    return summarize_run("snippets", STORE, make_refs())


def test_the_summary_keeps_the_numbers_of_every_stage(summary: RunSummary) -> None:
    assert (summary.rows_in, summary.num_rows["train"], summary.num_steps, summary.version) == (100, 72, 1234, "3")
    assert (summary.metrics["f1_macro"], summary.baseline_metrics["f1_macro"], summary.verdict) == (
        0.84,
        0.3,
        "PROMOTE",
    )
    assert [stage.name for stage in summary.stages] == list(FACTS)
    assert summary.seconds == pytest.approx(13.5)


def test_the_summary_survives_json_and_cannot_be_changed(summary: RunSummary) -> None:
    assert RunSummary.model_validate_json(summary.model_dump_json()) == summary
    with pytest.raises(ValidationError, match="frozen"):
        summary.version = "4"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "1,234 steps (2 epochs)"),
        ({"num_epochs": 1, "kept_step": 617}, "1,234 steps (1 epoch), kept the model of step 617, the best one"),
        (
            {"kept_step": 1000, "stopped_early": True},
            "1,234 steps (2 epochs), stopped early, kept the model of step 1,000, the best one",
        ),
    ],
)
def test_the_summary_tells_how_training_ended(changes: dict[str, Any], told: str) -> None:
    assert describe_steps(summarize_run("snippets", STORE, make_refs(train=changes))) == told


def test_a_missing_stage_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(KeyError, match="register"):
        summarize_run("snippets", STORE, make_refs()[:-1])


def test_the_summary_says_what_became_of_the_rows_and_what_has_changed_in_them() -> None:
    quarantine = {"key": "ab" * 16, "num_rows": 2, "reasons": {"column 'label' is null": 2}}
    leakage = {"is_checked": False}
    refs = make_refs(
        snapshot={"quarantine": quarantine},
        split={"left_out": {"thinned": 5}, "leakage": leakage},
        register={"drift_warnings": ["Against the last snapshot: gone: column 'title'."]},
    )
    found = summarize_run("snippets", STORE, refs)
    assert (found.num_quarantined, found.quarantine_key, found.quarantined) == (2, "ab" * 16, quarantine["reasons"])
    assert (found.left_out, found.leakage) == ({"thinned": 5}, leakage)
    assert found.drift_warnings == ("Against the last snapshot: gone: column 'title'.",)
    assert [(step.step, step.rows_in, step.rows_out) for step in found.data_steps] == [
        ("read", 100, 100),
        ("drop_null", 100, 93),
    ]
    assert found.lost_token_fraction["train"] == 0.0125


def test_a_version_that_was_registered_before_drift_was_looked_at_has_no_warnings(summary: RunSummary) -> None:
    assert summary.drift_warnings == ()
