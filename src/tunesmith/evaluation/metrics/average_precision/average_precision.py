"""Average precision: the mean precision over the scores of a class's examples."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score


class AveragePrecision(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Average precision, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The mean over classes of each against the rest; of two classes, that of the second.",
            citation="",
            inputs_description=(
                "Args: prediction_scores: the probability of each class, which add up to 1. "
                "references: the true class ids, from 0."
                " A class of which there are no examples, or no others, is left out."
            ),
            features=datasets.Features(
                {
                    "prediction_scores": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=[
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html"
            ],
        )

    def _compute(self, prediction_scores: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        scores, labels = np.asarray(prediction_scores), np.asarray(references)
        classes = [1] if scores.shape[1] == 2 else np.unique(labels)
        rest = [labels == number for number in classes]
        values = [
            average_precision_score(is_class, scores[:, number])
            for number, is_class in zip(classes, rest, strict=True)
            if 0 < is_class.sum() < len(labels)
        ]
        return {"average_precision": float(np.mean(values)) if values else float("nan")}
