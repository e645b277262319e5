"""Bootstrap intervals: how far a metric on these test examples can be from that on all that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunesmith.kinds.draws import Array, Draws, Measured

CONFIDENCE = 0.95
NUM_DRAWS, LEAST_DRAWS = 2000, 400
MAX_WORK = 2 * 10**8
"""Draws times examples times passes: some seconds."""
SEED = 0
NUM_GROUPS = 200
"""Groups of examples that are left out in turn, to tell how skewed a metric is."""
MAX_WEIGHTS = 2**22
"""Weights in memory at a time: 32 MB."""

Compute = Callable[[Draws], Mapping[str, Array]]
"""Draws -> each metric in each draw."""


class Interval(BaseModel):
    """Where a metric may be with a confidence of 95 %."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    low: float
    """The least value."""
    high: float
    """The greatest value."""

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.low:.4f} to {self.high:.4f}"


def compute_values(measured: Measured, names: Sequence[str]) -> dict[str, float]:
    """Each metric on the examples as they are."""
    found = measured.compute(names, np.ones((1, measured.num_examples)))
    return {name: float(values[0]) for name, values in found.items()}


def compute_intervals(measured: Measured, names: Sequence[str]) -> dict[str, Interval]:
    """The interval of each metric, by the bootstrap with a correction of bias and skew (BCa).

    Args:
        measured: At least one example.
        names: The metrics.

    Source: Efron 1987, Better Bootstrap Confidence Intervals; the acceleration is that of a grouped jackknife.
    """
    found: dict[str, Interval] = {}
    for num_draws in {choose_num_draws(measured, name): None for name in names}:
        together = [name for name in names if choose_num_draws(measured, name) == num_draws]
        compute = partial(measured.compute, together)
        bootstrap = Bootstrap(compute, measured.num_examples, num_draws)
        found |= {name: bootstrap.find_interval(name, CONFIDENCE) for name in together}
    return {name: found[name] for name in names}


def choose_num_draws(measured: Measured, name: str) -> int:
    """As many draws as a metric needs seconds for, and not minutes; of the usual ones, all."""
    return min(NUM_DRAWS, max(LEAST_DRAWS, MAX_WORK // (measured.num_examples * measured.count_passes(name))))


class Bootstrap:
    """What a metric, or a difference of two, is in test sets drawn from these examples."""

    def __init__(self, compute: Compute, num_examples: int, num_draws: int = NUM_DRAWS) -> None:
        self.num_examples = num_examples
        self.values = collect(compute, np.ones((1, num_examples)))
        self.drawn = collect(compute, draw(num_examples, num_draws))
        self._left_out = collect(compute, leave_out(num_examples))

    def find_interval(self, name: str, confidence: float) -> Interval:
        """The interval that holds the truth with a confidence in (0, 1)."""
        from scipy.special import ndtr, ndtri

        value, drawn = float(self.values[name][0]), self._known(name)
        if not len(drawn):
            return Interval(low=value, high=value)
        if drawn[0] == drawn[-1]:
            return self._widen(value, confidence)
        bias, skew = self._find_bias(name), self._find_skew(name)
        tails = ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
        low, high = np.quantile(drawn, ndtr(bias + (bias + tails) / (1 - skew * (bias + tails))))
        return Interval(low=float(low), high=float(high))

    def find_tail(self, name: str, limit: float) -> float:
        """The p-value of the null hypothesis that the truth is at most `limit`: where the interval would end."""
        from scipy.special import ndtr, ndtri

        drawn = self._known(name)
        # Half a draw at both ends: a finite number of draws never shows that something is impossible.
        share = (np.sum(drawn < limit) + np.sum(drawn == limit) / 2 + 0.5) / (len(drawn) + 1)
        bias, skew = self._find_bias(name), self._find_skew(name)
        distance = ndtri(share) - bias
        return float(ndtr(distance / (1 + skew * distance) - bias))

    def find_standard_error(self, name: str) -> float:
        """The standard deviation over the draws."""
        drawn = self._known(name)
        return float(drawn.std()) if len(drawn) else 0.0

    def _known(self, name: str) -> Array:
        drawn = self.drawn[name]
        return np.sort(drawn[np.isfinite(drawn)])

    def _find_bias(self, name: str) -> float:
        from scipy.special import ndtri

        value, drawn = self.values[name][0], self._known(name)
        share = (np.sum(drawn < value) + np.sum(drawn == value) / 2 + 0.5) / (len(drawn) + 1)
        return float(ndtri(share))

    def _find_skew(self, name: str) -> float:
        left_out = self._left_out[name]
        distances = np.mean(left_out[np.isfinite(left_out)]) - left_out[np.isfinite(left_out)]
        spread = np.sum(distances**2) ** 1.5
        return float(np.sum(distances**3) / (6 * spread)) if spread > 0 else 0.0

    def _widen(self, value: float, confidence: float) -> Interval:
        """Where all draws are alike: a share of none or all of the examples may be as far off as chance allows."""
        reach = 1 - ((1 - confidence) / 2) ** (1 / self.num_examples)
        if value == 1:
            return Interval(low=1 - reach, high=1.0)
        return Interval(low=value, high=reach if value == 0 else value)


def draw(num_examples: int, num_draws: int, seed: int = SEED) -> Iterator[Draws]:
    """How often each example is drawn, with replacement, some draws at a time."""
    random = np.random.default_rng(seed)
    size = max(1, MAX_WEIGHTS // num_examples)
    for start in range(0, num_draws, size):
        number = min(size, num_draws - start)
        drawn = random.integers(0, num_examples, (number, num_examples), dtype=np.int32)
        places = drawn + np.arange(number, dtype=np.int64)[:, None] * num_examples
        counts = np.bincount(places.ravel(), minlength=number * num_examples)
        yield counts.reshape(number, num_examples).astype(np.float64)


def leave_out(num_examples: int) -> Iterator[Draws]:
    """All examples but one, or but a group of every so many, some draws at a time."""
    num_groups = min(num_examples, NUM_GROUPS)
    groups = np.arange(num_examples) % num_groups
    size = max(1, MAX_WEIGHTS // num_examples)
    for start in range(0, num_groups, size):
        numbers = np.arange(start, min(start + size, num_groups))
        yield (groups != numbers[:, None]).astype(np.float64)


def collect(compute: Compute, draws: Iterator[Draws] | Draws) -> dict[str, Array]:
    """Each metric in all draws."""
    parts: list[Mapping[str, Any]] = [compute(part) for part in ([draws] if isinstance(draws, np.ndarray) else draws)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
