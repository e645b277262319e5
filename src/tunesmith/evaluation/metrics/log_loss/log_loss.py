"""Log loss: the mean negative logarithm of the probability of the true class."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import log_loss


class LogLoss(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Log loss in nats, from 0; less is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The mean negative logarithm of the probability of the true class.",
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
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html"],
        )

    def _compute(self, prediction_scores: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        return {"log_loss": float(log_loss(references, prediction_scores, labels=range(len(prediction_scores[0]))))}
