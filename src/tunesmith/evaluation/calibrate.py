"""The calibration of a candidate: before and after a temperature that is fitted on the validation split."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tunesmith.evaluation.reliability import Reliability, compute_reliability
from tunesmith.kinds.protocol import Kind
from tunesmith.store.ref import Facts


class CalibrationReport(BaseModel):
    """How sure a candidate is of its labels on the test split, and how often it is right."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    temperature: float | None
    """What divides the logits for the least log loss on the validation split; None where that has no examples."""
    num_validation_examples: int
    """The examples that it was fitted on."""
    is_applied: bool
    """Whether the candidate is judged, exported and served with it."""
    before: Reliability
    """The confidence on the test split without it."""
    after: Reliability | None
    """The same with it."""

    @property
    def applied_temperature(self) -> float | None:
        """The temperature that goes with the model; None where none does."""
        return self.temperature if self.is_applied else None


def find_temperature(report: Facts) -> float | None:
    """The temperature that goes with a candidate, of the facts of its evaluate artifact."""
    found = report.get("calibration")
    return None if found is None else CalibrationReport.model_validate(found).applied_temperature


def calibrate(
    kind: Kind, test: pa.Table, validation: pa.Table | None, labels: Sequence[str], *, is_applied: bool
) -> CalibrationReport:
    """Fit the temperature, and compare the calibration without and with it.

    Args:
        kind: A kind that has a temperature.
        test: The prediction table of the test split.
        validation: That of the validation split; None where it has no examples.
        labels: The label set in id order.
        is_applied: Whether the recipe asks for it.
    """
    temperature = None if validation is None else kind.fit_temperature(validation, labels)
    return CalibrationReport(
        temperature=temperature,
        num_validation_examples=0 if validation is None else validation.num_rows,
        is_applied=is_applied,
        before=_measure(kind, test, labels),
        after=None if temperature is None else _measure(kind, kind.scale(test, labels, temperature), labels),
    )


def _measure(kind: Kind, predictions: pa.Table, labels: Sequence[str]) -> Reliability:
    classified = kind.classify(predictions, labels)
    assert classified is not None
    return compute_reliability(classified)
