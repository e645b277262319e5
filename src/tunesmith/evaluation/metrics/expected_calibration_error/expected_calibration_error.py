"""Expected calibration error: the mean gap between confidence and accuracy, weighted by bin size."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

NUM_BINS = 15


class ExpectedCalibrationError(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The expected calibration error, in [0, 1]; less is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The mean gap between confidence and accuracy in 15 bins of equal width, weighted by size.",
            citation="",
            inputs_description=(
                "Args: prediction_scores: the probability of each class, which add up to 1. "
                "references: the true class ids, from 0."
            ),
            features=datasets.Features(
                {
                    "prediction_scores": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    def _compute(self, prediction_scores: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        scores, labels = np.asarray(prediction_scores), np.asarray(references)
        confidence, is_correct = scores.max(axis=1), scores.argmax(axis=1) == labels
        bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
        gaps = [abs(float((is_correct - confidence)[bins == number].sum())) for number in range(NUM_BINS)]
        return {"expected_calibration_error": sum(gaps) / len(labels)}
