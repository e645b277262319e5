"""Matthews correlation: how far predictions and labels agree beyond chance, with any number of classes."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef


class MatthewsCorrelation(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The Matthews correlation coefficient, in [-1, 1]; greater is better, 0 is chance."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="How far predictions and labels agree beyond chance.",
            citation="",
            inputs_description="Args: predictions, references: labels as text or as whole numbers.",
            features=[
                datasets.Features({"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)})
                for dtype in ("string", "int64")
            ],
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.matthews_corrcoef.html"],
        )

    def _compute(self, predictions: Sequence[str | int], references: Sequence[str | int]) -> dict[str, float]:
        if len({*predictions, *references}) < 2:
            return {"matthews_correlation": 0.0}  # scikit-learn's value too, there with a warning
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
