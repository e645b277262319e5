"""Whether a model's probabilities are what they say: of predictions made with 80 %, are 80 % right."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunesmith.kinds.class_metrics import NUM_BINS, Classified, find_bins


class Bin(BaseModel):
    """The predictions whose confidence is in a range, open on the left and closed on the right."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    low: float
    """The least confidence."""
    high: float
    """The greatest one."""
    count: int
    """Predictions in it, at least one."""
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """The share of them that is right."""


class Reliability(BaseModel):
    """The bins that hold predictions, and how far confidence and accuracy are apart."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    bins: tuple[Bin, ...]
    """By confidence."""
    expected_calibration_error: float
    """The mean gap between confidence and accuracy, each bin by its predictions: in [0, 1]; 0 is best."""


def compute_reliability(classified: Classified) -> Reliability:
    """Compare confidence and accuracy in bins of equal width.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    confidence = classified.probabilities.max(axis=1)
    is_right = classified.labels == classified.predicted
    numbers = find_bins(confidence)
    bins = [
        Bin(
            low=number / NUM_BINS,
            high=(number + 1) / NUM_BINS,
            count=int(np.sum(numbers == number)),
            confidence=float(confidence[numbers == number].mean()),
            accuracy=float(is_right[numbers == number].mean()),
        )
        for number in np.unique(numbers).tolist()
    ]
    gap = sum(abs(item.confidence - item.accuracy) * item.count for item in bins) / max(len(confidence), 1)
    return Reliability(bins=tuple(bins), expected_calibration_error=float(gap))
