"""Recall: of the examples of a class, the fraction that is predicted as that class."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import recall_score


class Recall(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Recall, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Recall: of the examples of a class, the fraction that is predicted as that class.",
            citation="",
            inputs_description=(
                "Args: predictions, references: labels as text or as whole numbers. average: how classes are put "
                "together, as in scikit-learn. pos_label: the positive class of average='binary'. A class without "
                "examples counts as zero."
            ),
            features=[
                datasets.Features({"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)})
                for dtype in ("string", "int64")
            ],
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.recall_score.html"],
        )

    def _compute(
        self,
        predictions: Sequence[str | int],
        references: Sequence[str | int],
        average: str = "macro",
        pos_label: str | int = 1,
    ) -> dict[str, float]:
        value = recall_score(references, predictions, average=average, pos_label=pos_label, zero_division=0)
        return {"recall": float(value)}
