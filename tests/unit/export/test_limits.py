"""Whether a format is near enough to the judged model."""

from __future__ import annotations

from typing import Any

import pytest

from finished_run import FACTS
from tunesmith.errors import TunesmithError
from tunesmith.export.config import ExportConfig
from tunesmith.export.formats import FormatReport, find_fault, judge, require

MEASURED = FormatReport.model_validate(FACTS["export"]["formats"]["safetensors"])
"""Logits of up to 3.5, of which 1e-6 is a rounding."""
INT8 = ("onnx", "onnx-int8")


@pytest.mark.parametrize(
    ("format", "measured", "limits", "fault"),
    [
        ("onnx", {"max_logit_difference": 3e-4}, {}, None),
        ("onnx", {"max_logit_difference": 4e-4}, {}, r"differ by up to 0\.0004 .* allows 0\.00035 beside logits of up"),
        ("onnx", {"max_logit_difference": None}, {}, "not finite"),
        ("onnx", {"max_logit_difference": 0.0}, {"max_logit_difference": 0.0}, None),
        ("onnx-int8", {"max_logit_difference": 0.5, "agreement": 0.99}, {}, None),
        ("onnx-int8", {"max_logit_difference": 0.5, "agreement": 0.97}, {}, r"3\.00% of its .* allows 2\.00%"),
        ("onnx-int8", {"agreement": 0.97}, {"formats": INT8, "max_disagreement_fraction": 0.04}, None),
        ("onnx-int8", {"max_logit_difference": None, "agreement": 1.0}, {}, "not finite"),
        ("onnx-int8", {}, {"formats": INT8, "max_disagreement_fraction": 0.0}, None),
        (
            "onnx-int8",
            {"max_logit_difference": 0.01},
            {"formats": INT8, "max_disagreement_fraction": 0.0},
            r"max_disagreement_fraction is 0: it must be equal",
        ),
    ],
)
def test_a_format_has_a_fault_where_it_is_beyond_its_own_limit(
    format: str, measured: dict[str, Any], limits: dict[str, Any], fault: str | None
) -> None:
    report = judge(format, MEASURED.model_copy(update=measured), ExportConfig(**limits))
    assert report.is_shipped == (fault is None)
    if fault is None:
        assert report.reason is None
        require(format, report)
        return
    assert report.reason == find_fault(format, report, ExportConfig(**limits))
    with pytest.raises(TunesmithError, match=fault):
        require(format, report)
