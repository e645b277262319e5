"""The metrics of a language model in many draws at a time: an example is a block of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tunesmith.kinds.class_metrics import divide
from tunesmith.kinds.draws import Array, Draws, Measured, compute_means

METRICS = {"perplexity": False, "token_accuracy": True, "sequence_accuracy": True}
"""Name of a metric -> whether greater is better."""
RANGES = {"perplexity": (1.0, math.inf), "token_accuracy": (0.0, 1.0), "sequence_accuracy": (0.0, 1.0)}
"""Name of a metric -> the least and the greatest value that it can have."""


@dataclass(frozen=True)
class Predicted(Measured):
    """How well a model foretold the tokens of some examples.

    Attributes:
        nll: The sum of the tokens' negative log-likelihoods in nats, shape (num_examples,).
        num_tokens: How many tokens that is over.
        num_correct: How many of them were the most likely one.
    """

    nll: Array
    num_tokens: Array
    num_correct: Array

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return len(self.nll)

    def count_passes(self, name: str) -> int:
        """One."""
        return 1

    def compute(self, names: Sequence[str], draws: Draws) -> dict[str, Array]:
        """Metrics in each draw; every token weighs what its example weighs."""
        num_tokens = draws @ self.num_tokens
        found: dict[str, Array] = {}
        if "perplexity" in names:
            with np.errstate(over="ignore"):
                found["perplexity"] = np.exp(divide(draws @ self.nll, num_tokens))
        if "token_accuracy" in names:
            found["token_accuracy"] = divide(draws @ self.num_correct, num_tokens)
        if "sequence_accuracy" in names:
            found["sequence_accuracy"] = compute_means(self.num_correct == self.num_tokens, draws)
        return {name: found[name] for name in names}

    def find_correct(self, name: str) -> Array | None:
        """Whether every token of an example is right, for sequence accuracy; else tokens are, and not examples."""
        return self.num_correct == self.num_tokens if name == "sequence_accuracy" else None

    def join(self, other: Measured) -> Predicted:
        """The examples of both."""
        other = cast(Predicted, other)
        return Predicted(
            np.concatenate([self.nll, other.nll]),
            np.concatenate([self.num_tokens, other.num_tokens]),
            np.concatenate([self.num_correct, other.num_correct]),
        )
