"""Perplexity: exp of the mean negative log-likelihood of a token, over all tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import datasets
import evaluate


class Perplexity(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Perplexity, from 1; less is better."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="exp of the mean negative log-likelihood of a token; every token weighs the same.",
            citation="",
            inputs_description=(
                "Args: nll: per example the sum of its tokens' negative log-likelihoods, in nats. "
                "num_tokens: per example how many tokens that sum is over."
            ),
            features=datasets.Features({"nll": datasets.Value("float64"), "num_tokens": datasets.Value("int64")}),
            reference_urls=["https://huggingface.co/docs/transformers/perplexity"],
        )

    def _compute(self, nll: Sequence[float], num_tokens: Sequence[int]) -> dict[str, float]:
        total = sum(num_tokens)
        if total == 0:
            raise ValueError("perplexity is not defined over zero tokens")
        mean = math.fsum(nll) / total
        return {"perplexity": math.exp(mean) if mean < 700 else math.inf}  # exp(710) is beyond a float
