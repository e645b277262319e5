"""The summary of a run, and its page."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.report.summary import RunSummary, render_markdown, summarize_run
from tunesmith.store.ref import Ref

FACTS: dict[str, dict[str, Any]] = {
    "snapshot": {"num_rows": 90, "rows_in": 100, "dropped": {"drop_null: text": 7, "a | strange\n<reason>": 3}},
    "split": {"num_rows": {"train": 72, "validation": 9, "test": 9}},
    "encode": {"num_truncated": {"train": 4, "validation": 0, "test": 0}, "num_tokens": {}, "labels": ["no", "yes"]},
    "train": {
        "num_steps": 1234,
        "num_epochs": 2,
        "examples_per_second": 88.13,
        "train_loss": 0.25,
        "validation_loss": 0.5,
        "weights_sha256": "ab" * 32,
        "resumed_from_step": None,
    },
    "evaluate": {
        "metrics": {"accuracy": 0.85, "f1": 0.84},
        "baseline": {"name": "majority class (yes)", "metrics": {"accuracy": 0.5, "f1": 0.3}},
        "primary_metric": "f1",
        "greater_is_better": True,
        "num_examples": 9,
    },
    "decide": {"verdict": "PROMOTE", "reasons": ["f1 0.84 beats the baseline's 0.3", "there is no champion yet"]},
    "export": {"max_logit_difference": 1e-6, "size_bytes": 1, "formats": ["safetensors"]},
    "register": {
        "model_name": "snippets",
        "version": 3,
        "aliases": ["champion"],
        "mlflow_run_id": "0123abcd",
        "model_uri": "models:/snippets/3",
        "experiment": "snippets",
    },
}


def make_refs(**changes: Any) -> list[Ref]:
    refs = []
    for number, (kind, facts) in enumerate(FACTS.items()):
        is_cached = kind == "split"
        ref = Ref(kind=kind, key=f"{number:032x}", uri=f"/store/{kind}", facts={**facts, **changes.get(kind, {})})
        reason = "" if is_cached else f"train.seed: 0 -> {number}"
        refs.append(ref.model_copy(update={"is_cached": is_cached, "reason": reason, "seconds": 1.5}))
    return refs


@pytest.fixture
def summary() -> RunSummary:
    return summarize_run("snippets", make_refs())


def test_the_summary_keeps_the_numbers_of_every_stage(summary: RunSummary) -> None:
    assert (summary.rows_in, summary.num_rows["train"], summary.num_steps, summary.version) == (100, 72, 1234, "3")
    assert (summary.metrics["f1"], summary.baseline_metrics["f1"], summary.verdict) == (0.84, 0.3, "PROMOTE")
    assert [stage.name for stage in summary.stages] == list(FACTS)
    assert summary.seconds == pytest.approx(12.0)


def test_the_summary_survives_json_and_cannot_be_changed(summary: RunSummary) -> None:
    assert RunSummary.model_validate_json(summary.model_dump_json()) == summary
    with pytest.raises(ValidationError, match="frozen"):
        summary.version = "4"  # type: ignore[misc]


def test_a_missing_stage_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(KeyError, match="register"):
        summarize_run("snippets", make_refs()[:-1])


def test_the_page_says_what_was_decided_why_and_where_it_lies(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert "**PROMOTE**: snippets version **3**, alias **champion**" in page
    assert "\n- there is no champion yet\n" in page
    assert "Model `models:/snippets/3`, experiment `snippets`, MLflow run `0123abcd`" in page


def test_the_page_puts_every_metric_beside_the_baseline_with_the_primary_one_first(summary: RunSummary) -> None:
    lines = render_markdown(summary).splitlines()
    start = lines.index("| metric | candidate | baseline: majority class (yes) | difference |")
    assert lines[start + 2] == "| **f1** (primary) | 0.8400 | 0.3000 | +0.5400 |"
    assert lines[start + 3] == "| accuracy | 0.8500 | 0.5000 | +0.3500 |"


def test_the_page_accounts_for_the_rows(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert "| read | 100 |  |\n| dropped | 7 | drop_null: text |" in page
    assert "| train | 72 | 4 truncated |" in page
    assert "| test | 9 |  |" in page


def test_the_page_says_per_stage_how_long_it_took_and_whether_it_was_cached_or_why_not(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert f"| split | 1.5 | cached | `{1:032x}` |" in page
    assert f"| train | 1.5 | train.seed: 0 -> 3 | `{3:032x}` |" in page
    assert "| **all** | **12.0** |" in page


def test_strange_text_cannot_break_a_table(summary: RunSummary) -> None:
    assert "| dropped | 3 | a \\| strange &lt;reason> |" in render_markdown(summary)


def test_the_loss_curve_is_part_of_the_page(summary: RunSummary) -> None:
    assert "data:image" not in render_markdown(summary)
    encoded = base64.b64encode(b"\x89PNG picture").decode()
    page = render_markdown(summary, b"\x89PNG picture")
    assert f"![loss curve](data:image/png;base64,{encoded})" in page


def test_a_metric_that_the_baseline_does_not_have_is_shown_alone() -> None:
    baseline = {"name": "majority class", "metrics": {"accuracy": 0.5}}
    page = render_markdown(summarize_run("snippets", make_refs(evaluate={"baseline": baseline})))
    assert "| **f1** (primary) | 0.8400 |  |  |" in page


def test_a_thousand_reasons_and_a_picture_stay_below_200_kib() -> None:
    dropped = {f"reason {number} {'x' * 900}": number for number in range(1000)}
    page = render_markdown(summarize_run("snippets", make_refs(snapshot={"dropped": dropped})), b"x" * 100_000)
    assert len(page.encode()) < 200 * 1024
    assert "980 more reasons" in page
