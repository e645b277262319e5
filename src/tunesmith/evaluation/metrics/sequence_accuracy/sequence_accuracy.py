"""Sequence accuracy: the fraction of examples of which the model would have chosen every token itself."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate


class SequenceAccuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Sequence accuracy, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "The fraction of examples of which every token is the most likely one, given the true ones before it: "
                "where it holds, greedy decoding matches the example exactly."
            ),
            citation="",
            inputs_description=(
                "Args: num_correct: per example how many tokens were the most likely ones. "
                "num_tokens: per example how many tokens were judged."
            ),
            features=datasets.Features({"num_correct": datasets.Value("int64"), "num_tokens": datasets.Value("int64")}),
            reference_urls=[],
        )

    def _compute(self, num_correct: Sequence[int], num_tokens: Sequence[int]) -> dict[str, float]:
        pairs = list(zip(num_correct, num_tokens, strict=True))
        return {"sequence_accuracy": sum(correct == total for correct, total in pairs) / len(pairs)}
