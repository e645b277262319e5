"""What a run says of its exported formats."""

from __future__ import annotations

from typing import Any

import pytest

from finished_run import FACTS, STORE, make_refs
from tunesmith.cli.finetuning import render_summary
from tunesmith.report.page import render_markdown
from tunesmith.report.summary import RunSummary, summarize_run

SAFETENSORS: dict[str, Any] = FACTS["export"]["formats"]["safetensors"]
REASON = "3.00% of its test predictions | are not those of the judged model"
INT8 = {**SAFETENSORS, "is_shipped": False, "reason": REASON, "agreement": 0.97, "max_logit_difference": None}
INT8 |= {"metric_delta": None, "interval": None}


def summarize(**formats: Any) -> RunSummary:
    return summarize_run("snippets", STORE, make_refs(export={"formats": {"safetensors": SAFETENSORS, **formats}}))


def test_the_page_has_every_format_and_why_one_is_not_shipped() -> None:
    page = render_markdown(summarize(**{"onnx-int8": INT8}))
    assert "## Exports" in page
    assert (
        "| safetensors | shipped | 90.9 MB | 100.00% | 1e-06 | +0.0000 (0.0000 to 0.0000) | 4.0 ms, 50.0 ms |" in page
    )
    assert "| onnx-int8 | **not shipped** | 90.9 MB | 97.00% | not finite | not finite |" in page
    assert "- onnx-int8: 3.00% of its test predictions" in page


def test_the_last_screen_says_what_is_not_shipped_and_nothing_where_there_is_one_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    screen = render_summary(summarize(**{"onnx-int8": INT8}))
    assert f"exported safetensors 90.9 MB\nonnx-int8 is not shipped: {REASON}" in screen
    assert "exported" not in render_summary(summarize())
