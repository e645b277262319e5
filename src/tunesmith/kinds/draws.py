"""Metrics as functions of how much each example weighs.

One draw of a bootstrap weighs each example by how often it was drawn; leaving examples out weighs them zero; exchanging
two models' predictions moves weight from one to the other. So intervals and tests need each metric in one form alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]

Draws = Array
"""Weights of shape (num_draws, num_examples), none negative, float64."""


class Measured(Protocol):
    """What a model predicted for some examples, ready to be measured."""

    @property
    def num_examples(self) -> int:
        """How many examples there are."""

    def count_passes(self, name: str) -> int:
        """How often a metric goes through the examples in each draw: what it costs."""

    def compute(self, names: Sequence[str], draws: Draws) -> dict[str, Array]:
        """Metrics in each draw, each of shape (num_draws,); NaN where a draw leaves one undefined."""

    def find_correct(self, name: str) -> Array | None:
        """Whether each example is right, where the metric is the share of those; None for any other metric."""

    def join(self, other: Measured) -> Measured:
        """The examples of both, those of `other` behind."""


def compute_means(values: Array, draws: Draws) -> Array:
    """The weighted mean of what each example has, in each draw."""
    with np.errstate(invalid="ignore"):
        means: Array = (draws @ values) / draws.sum(axis=1)
    return means
