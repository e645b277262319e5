"""The calibration of a candidate in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.evaluation.limits import CALIBRATION


def describe_calibration(found: Mapping[str, Any] | None) -> str | None:
    """The calibration error without and with the temperature, in a sentence; None where there is no temperature.

    Args:
        found: The fact `calibration` of an evaluate artifact.
    """
    if found is None or found["temperature"] is None:
        return None
    how = "applied" if found["is_applied"] else "not applied; evaluate.calibrate would"
    return (
        f"expected calibration error {found['before'][CALIBRATION]:.4f}, with the temperature "
        f"{found['temperature']:.3g} {found['after'][CALIBRATION]:.4f} ({how})"
    )
