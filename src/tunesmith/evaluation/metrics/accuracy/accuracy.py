"""Accuracy: the fraction of examples whose prediction is their label."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Accuracy, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The fraction of examples whose prediction is their label.",
            citation="",
            inputs_description="Args: predictions, references: labels as text or as whole numbers.",
            features=[
                datasets.Features({"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)})
                for dtype in ("string", "int64")
            ],
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.accuracy_score.html"],
        )

    def _compute(self, predictions: Sequence[str | int], references: Sequence[str | int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
