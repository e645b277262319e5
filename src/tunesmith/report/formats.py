"""The exported formats of a model, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.export.formats import FormatReport


def describe_format(report: FormatReport) -> dict[str, str]:
    """What was measured of a format, as people read it, by what it is."""
    difference = "not finite" if report.max_logit_difference is None else f"{report.max_logit_difference:.2g}"
    delta = "not finite" if report.metric_delta is None else f"{report.metric_delta:+.4f} ({report.interval})"
    latency = ", ".join(f"{seconds * 1000:,.1f} ms" for seconds in report.latency_seconds.values())
    return {
        "size": describe_bytes(report.size_bytes),
        "agreement": f"{report.agreement:.2%}",
        "largest logit difference": difference,
        f"{report.metric} delta (95 % interval)": delta,
        f"latency at batch {' and '.join(report.latency_seconds)}": latency,
        "memory": describe_bytes(report.peak_memory_bytes),
    }


def describe_shipping(formats: Mapping[str, FormatReport]) -> list[str]:
    """Which formats there are, and of each that is not shipped why, a line each; nothing where that is safetensors."""
    shipped = [f"{name} {describe_bytes(report.size_bytes)}" for name, report in formats.items() if report.is_shipped]
    missing = [f"{name} is not shipped: {report.reason}" for name, report in formats.items() if not report.is_shipped]
    return [f"exported {', '.join(shipped)}", *missing] if [*formats] != ["safetensors"] else []


def describe_bytes(size: int) -> str:
    """A size such as `90.9 MB`."""
    return f"{size / 1e6:,.1f} MB"
