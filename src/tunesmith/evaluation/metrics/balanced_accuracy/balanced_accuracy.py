"""Balanced accuracy: the mean over classes of the fraction of their examples that is predicted as them."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import recall_score


class BalancedAccuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Balanced accuracy, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The mean recall of the classes that have examples.",
            citation="",
            inputs_description=("Args: predictions, references: labels as text or as whole numbers."),
            features=[
                datasets.Features({"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)})
                for dtype in ("string", "int64")
            ],
            reference_urls=[
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.balanced_accuracy_score.html"
            ],
        )

    def _compute(self, predictions: Sequence[str | int], references: Sequence[str | int]) -> dict[str, float]:
        classes = sorted({*references})  # scikit-learn's own function warns of a predicted class without examples
        value = recall_score(references, predictions, labels=classes, average="macro", zero_division=0)
        return {"balanced_accuracy": float(value)}
