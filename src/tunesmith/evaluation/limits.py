"""The limits of a gate that hold whoever the opponent is: on calibration, on size and on latency."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.evaluation.case import Case
from tunesmith.evaluation.intervals import compute_values
from tunesmith.kinds.draws import Measured

CALIBRATION = "expected_calibration_error"


def find_exceeded(case: Case, candidate: Measured) -> Iterator[str]:
    """The limits that a candidate does not keep, a sentence each.

    Args:
        case: What is demanded, and what was measured of the exported model.
        candidate: What the candidate predicts for the test examples.
    """
    gate, serving = case.gate, case.serving
    if gate.max_calibration_error is not None:
        error = compute_values(candidate, [CALIBRATION])[CALIBRATION]
        if not error <= gate.max_calibration_error:
            yield (
                f"The expected calibration error is {error:.4f}; gate.max_calibration_error allows "
                f"{gate.max_calibration_error:g}."
            )
    if serving is None:
        return
    if gate.max_size_bytes is not None and serving.size_bytes > gate.max_size_bytes:
        size, most = f"{serving.size_bytes:,} bytes", f"{gate.max_size_bytes:,}"
        yield f"The exported model has {size}; gate.max_size_bytes allows {most}."
    if gate.max_latency_seconds is not None and serving.latency_seconds > gate.max_latency_seconds:
        yield (
            f"One example takes {serving.latency_seconds:.4f} s; gate.max_latency_seconds allows "
            f"{gate.max_latency_seconds:g}."
        )
