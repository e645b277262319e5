"""Token accuracy: the fraction of tokens that the model would have chosen itself."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate


class TokenAccuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Token accuracy, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The fraction of tokens that the model would have chosen itself, given those before.",
            citation="",
            inputs_description=(
                "Args: num_correct: per example how many tokens were the most likely ones. "
                "num_tokens: per example how many tokens were judged."
            ),
            features=datasets.Features({"num_correct": datasets.Value("int64"), "num_tokens": datasets.Value("int64")}),
            reference_urls=[],
        )

    def _compute(self, num_correct: Sequence[int], num_tokens: Sequence[int]) -> dict[str, float]:
        total = sum(num_tokens)
        if total == 0:
            raise ValueError("token accuracy is not defined over zero tokens")
        return {"token_accuracy": sum(num_correct) / total}
