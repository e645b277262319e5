"""Exact match: the fraction of predicted texts that are their reference to the letter."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate


class ExactMatch(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Exact match, in [0, 1]; greater is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="The fraction of predicted texts that are their reference, white space around them aside.",
            citation="",
            inputs_description=("Args: predictions, references: texts."),
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
            reference_urls=["https://huggingface.co/spaces/evaluate-metric/exact_match"],
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        return {"exact_match": sum(ours.strip() == theirs.strip() for ours, theirs in pairs) / len(pairs)}
