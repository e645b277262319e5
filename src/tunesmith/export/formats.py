"""What is known of each exported format, and whether it is near enough to the model that was judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import CallError, TunesmithError
from tunesmith.evaluation.intervals import Interval
from tunesmith.export.config import ONNX_INT8, ExportConfig

PARITY_FILE = "parity.json"
DISAGREEMENT = "max_disagreement_fraction"


class FormatReport(BaseModel):
    """One exported format, loaded in a clean process and compared with the judged model on the whole test set."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    is_shipped: bool
    """Whether the artifact holds it."""
    reason: str | None
    """Why it does not; None where it does."""
    size_bytes: int
    """All files of its folder."""
    num_examples: int
    """Test examples; a long text may be several."""
    agreement: float
    """The share of the predictions that are the same: of the examples' classes, or of the tokens."""
    max_logit_difference: float | None
    """The largest distance between two logits of the same name; None where one is not finite."""
    largest_logit: float
    """The largest size of a logit of the judged model: rounding grows with it."""
    num_logits: int
    """Logits that were compared: all, but of a causal model no more than a memory holds."""
    metric: str
    """The metric that the decision rests on."""
    metric_delta: float | None
    """Its value for this format, less that of the judged model; None where a logit is not finite."""
    interval: Interval | None
    """Where the delta may be with a confidence of 95 %, both being scored on the same examples."""
    latency_seconds: dict[str, float]
    """The median time of a forward pass on the CPU, by the number of examples in it, all of the median length; a
    number is left out where its logits would take too much memory."""
    num_tokens: int
    """The tokens of an example that was timed, padding included."""
    num_threads: int
    """Threads of the forward pass."""
    peak_memory_bytes: int
    """What loading it and these forward passes took at the most, beyond the libraries."""


def find_fault(format: str, report: FormatReport, config: ExportConfig) -> str | None:
    """Why a format is too far from the judged model, with the number and its limit; None where it is not.

    Args:
        format: Its name.
        report: What was measured.
        config: The limits.
    """
    found = report.max_logit_difference
    if found is None:
        return "some of its logits are not finite"
    if format == ONNX_INT8:
        differing, limit = 1 - report.agreement, config.allowed_disagreement
        if differing > limit:
            return (
                f"{differing:.2%} of its test predictions are not those of the judged model; "
                f"export.max_disagreement_fraction allows {limit:.2%}"
            )
        if limit > 0:
            return None
    allowed = config.max_logit_difference * max(1.0, report.largest_logit)
    if found <= allowed:
        return None
    why = " (export.max_disagreement_fraction is 0: it must be equal)" if format == ONNX_INT8 else ""
    return (
        f"its logits differ by up to {found:.3g} from the candidate's on {report.num_examples} test examples; "
        f"export.max_logit_difference allows {allowed:.3g} beside logits of up to {report.largest_logit:.3g}{why}"
    )


def judge(format: str, report: FormatReport, config: ExportConfig) -> FormatReport:
    """The report with the verdict in it; takes what `find_fault` takes."""
    reason = find_fault(format, report, config)
    return report.model_copy(update={"is_shipped": reason is None, "reason": reason})


def require(format: str, report: FormatReport) -> None:
    """Refuse to go on with a format that everything else rests on.

    Raises:
        TunesmithError: It is too far from the judged model.
    """
    if not report.is_shipped:
        raise TunesmithError(
            f"exported as {format}, this is not the model that was judged: {report.reason}. Nothing is "
            "published. If so much is acceptable, raise the limit in the recipe."
        )


def write_reports(reports: Mapping[str, FormatReport], config: ExportConfig, folder: Path) -> dict[str, Any]:
    """Write parity.json: every format that was looked at, and the limits; returns the formats as JSON values."""
    formats = {name: report.model_dump(mode="json") for name, report in reports.items()}
    _write_document({"formats": formats, "limits": _list_limits(config)}, folder)
    return formats


def read_reports(folder: Path) -> dict[str, Any]:
    """What parity.json says; nothing of any format where there is none.

    Raises:
        CallError: It is there, and is not what `write_reports` wrote.
    """
    path = folder / PARITY_FILE
    if not path.exists():
        return {"formats": {}, "limits": {}}
    try:
        document = json.loads(path.read_bytes())
        return {"formats": {**document["formats"]}, "limits": {**document["limits"]}}
    except (OSError, ValueError, KeyError, TypeError):
        raise CallError(f"{path}: is not a report on formats; name another folder with --out, or remove it") from None


def add_report(told: Mapping[str, Any], format: str, report: FormatReport, config: ExportConfig, folder: Path) -> None:
    """Write parity.json with what was found of one format more.

    Args:
        told: What `read_reports` gave; what it says of other formats stays.
        format: The format's name.
        report: What was found.
        config: The limits.
        folder: Where parity.json lies.
    """
    limits = _list_limits(config)
    if format != ONNX_INT8:  # the only one that is held to how much may be predicted otherwise
        limits[DISAGREEMENT] = told["limits"].get(DISAGREEMENT, limits[DISAGREEMENT])
    formats = {**told["formats"], format: report.model_dump(mode="json")}
    _write_document({"formats": formats, "limits": limits}, folder)


def _list_limits(config: ExportConfig) -> dict[str, float]:
    return {"max_logit_difference": config.max_logit_difference, DISAGREEMENT: config.allowed_disagreement}


def _write_document(document: Mapping[str, Any], folder: Path) -> None:
    (folder / PARITY_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure_size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
