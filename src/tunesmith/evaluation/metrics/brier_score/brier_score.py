"""Brier score: the mean squared distance of the probabilities from the truth."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import brier_score_loss


class BrierScore(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The Brier score, in [0, 2], of two classes in [0, 1]; less is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "The mean squared distance of the probabilities from the truth: of all classes, of two of the second."
            ),
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
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.brier_score_loss.html"],
        )

    def _compute(self, prediction_scores: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        classes = range(len(prediction_scores[0]))
        if len(classes) == 2:
            seconds = [row[1] for row in prediction_scores]
            return {"brier_score": float(brier_score_loss(references, seconds, labels=[0, 1]))}
        return {"brier_score": float(brier_score_loss(references, prediction_scores, labels=classes))}
