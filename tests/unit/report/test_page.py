"""The page of a run."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from finished_run import STORE, make_refs
from tunesmith.report.page import render_markdown
from tunesmith.report.profile_page import ProfilePage
from tunesmith.report.summary import RunSummary, summarize_run


def make_page(**changes: Any) -> str:
    return render_markdown(summarize_run("snippets", STORE, make_refs(**changes)))


@pytest.fixture
def summary() -> RunSummary:
    return summarize_run("snippets", STORE, make_refs())


def test_the_page_says_what_was_decided_why_and_where_it_lies(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert "**PROMOTE**: snippets version **3**, alias **champion**" in page
    assert "\n- there is no champion yet\n" in page
    assert "Model `models:/snippets/3`, experiment `snippets`, MLflow run `0123abcd`" in page


def test_the_page_puts_every_metric_beside_the_baseline_with_the_primary_one_first(summary: RunSummary) -> None:
    lines = render_markdown(summary).splitlines()
    start = lines.index("| metric | candidate | 95 % interval | baseline: majority class (yes) | difference |")
    assert lines[start + 2] == "| **f1_macro** (primary) | 0.8400 | 0.7900 to 0.8900 | 0.3000 | +0.5400 |"
    assert lines[start + 3] == "| accuracy | 0.8500 | 0.8000 to 0.9000 | 0.5000 | +0.3500 |"


def test_the_page_shows_the_primary_metric_on_each_slice(summary: RunSummary) -> None:
    lines = render_markdown(summary).splitlines()
    start = lines.index("| slice | examples | f1_macro | 95 % interval |")
    assert lines[start + 2 : start + 4] == [
        "| genre: drama | 5 | 0.8000 | 0.5000 to 0.9000 |",
        "| genre: war | 4 |  |  |",
    ]


def test_the_page_accounts_for_the_rows(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert "| read | 100 |  |\n| dropped | 7 | drop_null: text |" in page
    assert "| train | 72 | 4 truncated (5.56% of rows, 1.25% of their tokens lost) |" in page
    assert "| test | 9 |  |" in page


def test_the_page_says_per_stage_how_long_it_took_and_whether_it_was_cached_or_why_not(summary: RunSummary) -> None:
    page = render_markdown(summary)
    assert f"| split | 1.5 | cached | `{1:032x}` |" in page
    assert f"| train | 1.5 | train.seed: 0 -> 4 | `{4:032x}` |" in page
    assert "| **all** | **13.5** |" in page


def test_strange_text_cannot_break_a_table(summary: RunSummary) -> None:
    assert "| dropped | 3 | a \\| strange &lt;reason> |" in render_markdown(summary)


def test_the_loss_curve_is_part_of_the_page(summary: RunSummary) -> None:
    assert "data:image" not in render_markdown(summary)
    encoded = base64.b64encode(b"\x89PNG picture").decode()
    page = render_markdown(summary, b"\x89PNG picture")
    assert f"![loss curve](data:image/png;base64,{encoded})" in page


def test_the_page_tells_the_calibration_without_and_with_the_temperature(summary):
    assert "expected calibration error 0.1200, with the temperature 1.5 0.0300 (applied)" in render_markdown(summary)
    plain = summary.model_copy(update={"calibration": None})
    assert "temperature" not in render_markdown(plain)


def test_a_metric_that_the_baseline_does_not_have_is_shown_alone() -> None:
    baseline = {"name": "majority class", "metrics": {"accuracy": 0.5}}
    page = render_markdown(summarize_run("snippets", STORE, make_refs(evaluate={"baseline": baseline})))
    assert "| **f1_macro** (primary) | 0.8400 | 0.7900 to 0.8900 |  |  |" in page


def test_a_thousand_reasons_and_a_picture_stay_below_200_kib() -> None:
    dropped = {f"reason {number} {'x' * 900}": number for number in range(1000)}
    page = render_markdown(summarize_run("snippets", STORE, make_refs(snapshot={"dropped": dropped})), b"x" * 100_000)
    assert len(page.encode()) < 200 * 1024
    assert "980 more reasons" in page


def test_the_page_names_rows_in_quarantine_with_their_reasons_and_how_to_see_them() -> None:
    quarantine = {"key": "ab" * 16, "num_rows": 2, "reasons": {"column 'label' is null": 2}}
    page = make_page(snapshot={"quarantine": quarantine})
    assert "| quarantined | 2 | column 'label' is null |" in page
    assert f"2 rows are in quarantine; a row may have several reasons: `tunesmith data quarantine {'ab' * 16}`" in page
    assert "quarantine" not in make_page()


def test_the_page_says_what_each_step_did_and_what_no_split_has() -> None:
    page = make_page(split={"left_out": {"thinned by its source's weight": 5}})
    assert "| drop_null | 100 | 93 |" in page
    assert "| left out | 5 | thinned by its source's weight |" in page


def test_the_page_says_what_leaks_only_where_it_was_looked_for() -> None:
    between = {
        "from": "train",
        "into": "test",
        "num_from": 4,
        "num_into": 3,
        "num_into_equal": 1,
        "fraction_into": 1 / 3,
    }
    leakage = {"is_checked": True, "policy": "report", "threshold": 0.65, "between": [between]}
    page = make_page(split={"leakage": leakage})
    assert "| test | train | 3 | 33.33% | 1 |" in page
    assert "Leakage" not in make_page(split={"leakage": {"is_checked": False}})


def test_the_page_warns_of_drift_before_it_shows_rows() -> None:
    page = make_page(register={"drift_warnings": ["Against the last snapshot: gone: column 'title'."]})
    assert "- Against the last snapshot: gone: column 'title'." in page
    assert page.index("gone: column") < page.index("## Rows")
    assert "changed in the data" not in make_page()


def test_the_profile_stands_in_the_page_with_its_pictures(summary: RunSummary) -> None:
    profile = ProfilePage("## Data\n\n90 rows.\n", {"classes": b"bars", "nulls": b"holes"})
    page = render_markdown(summary, b"curve", profile)
    assert "## Data\n\n90 rows.\n\n![classes](data:image/png;base64," in page
    assert page.index("![nulls]") < page.index("![loss curve]") < page.index("## Stages")


def test_a_picture_that_does_not_fit_is_left_out_and_the_others_stay(summary: RunSummary) -> None:
    profile = ProfilePage("## Data", {"classes": b"x" * 200_000, "nulls": b"holes"})
    page = render_markdown(summary, b"x" * 60_000, profile)
    assert len(page.encode()) < 200 * 1024
    assert "The picture of the classes is too large for this page; it is in the MLflow run." in page
    assert "![nulls]" in page
    assert "![loss curve]" in page


def test_the_page_says_what_merging_an_adapter_on_a_quantized_base_costs() -> None:
    assert "merged" not in make_page()
    page = make_page(export={"merging": {"loss": 1.25, "original_base_loss": 1.5, "num_examples": 9}})
    assert "On 9 test examples, the adapter is merged into the base model as it was quantized: test loss 1.2500" in page
    assert "into the original it would be 1.5000 (+0.2500)." in page
