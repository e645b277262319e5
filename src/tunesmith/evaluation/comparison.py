"""Whether one model is better than another: a test on the same examples, which both have been judged on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunesmith.errors import TunesmithError, UserError
from tunesmith.evaluation.intervals import (
    CONFIDENCE,
    MAX_WEIGHTS,
    SEED,
    Bootstrap,
    Interval,
    collect,
    compute_values,
)
from tunesmith.kinds.draws import Array, Draws, Measured

NUM_EXCHANGES = 4999
"""With the models as they are it makes 5,000: a p-value can be as small as 0.0002."""
POWER = 0.8
"""How surely the examples that are asked for would show a gain as large as the one that was seen."""
DIGITS = 12
"""Of numbers that are compared and kept: what comes behind differs from machine to machine."""

Method = Literal["McNemar's exact test", "Tango's score test", "permutation test", "bootstrap"]


class Comparison(BaseModel):
    """A candidate against another model, by one metric; a gain is positive where the candidate is better."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    metric: str
    """The metric."""
    candidate: float
    """Its value for the candidate."""
    other: float
    """Its value for the other model."""
    gain: float
    """What the candidate is better by."""
    interval: Interval
    """Where the gain may be."""
    min_gain: float
    """What the gain was tested against."""
    p_value: float
    """How likely such a gain would be at the most, were the true one no more than `min_gain`."""
    p_worse: float
    """How likely such a loss would be at the most, were the true one no more than -`min_gain`, or none."""
    method: Method
    """The test."""
    num_examples: int
    """The examples that both were judged on."""
    num_only_candidate: int | None
    """Examples that the candidate alone has right; None where examples are not right or wrong."""
    num_only_other: int | None
    """Examples that the other model alone has right."""
    num_needed: int | None
    """Examples that would show a gain as large as this one with a chance of 80 %; None where there is none to show."""


def compare(
    candidate: Measured, other: Measured, metric: str, *, greater_is_better: bool, min_gain: float, alpha: float
) -> Comparison:
    """Test whether a candidate is better than another model by more than `min_gain`.

    Accuracy is tested by McNemar's exact test (with a `min_gain`, by Tango's score test). Any other metric is tested by
    exchanging the two models' predictions at random, as exact (with a `min_gain`, by bootstrapping the difference).

    Args:
        candidate: What the candidate predicted.
        other: What the other model predicted for the same examples, in the same order.
        metric: One of the kind's metrics.
        greater_is_better: Whether more of it is better.
        min_gain: The gain that is not enough; below zero, the loss that would be too much.
        alpha: The p-value below which something counts as shown; for `num_needed` alone.

    Raises:
        UserError: No two shares of examples differ by as much as `min_gain`.
        TunesmithError: The test gives no p-value.
    """
    sign = 1.0 if greater_is_better else -1.0

    def compute_gain(draws: Draws) -> Mapping[str, Array]:
        ours, theirs = (model.compute([metric], draws)[metric] for model in (candidate, other))
        return {metric: sign * (ours - theirs)}

    bootstrap = Bootstrap(compute_gain, candidate.num_examples)
    gain = _round(float(bootstrap.values[metric][0]))
    ours, theirs = candidate.find_correct(metric), other.find_correct(metric)
    pairs = None if ours is None or theirs is None else (int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours)))
    method, p_value, p_worse = _test(candidate, other, metric, sign, min_gain, bootstrap, pairs)
    values = [compute_values(model, [metric])[metric] for model in (candidate, other)]
    interval = bootstrap.find_interval(metric, CONFIDENCE)
    return Comparison(
        metric=metric,
        candidate=_round(values[0]),
        other=_round(values[1]),
        gain=gain,
        interval=Interval(low=_round(interval.low), high=_round(interval.high)),
        min_gain=min_gain,
        p_value=_round(ensure_finite(p_value, metric)),
        p_worse=_round(ensure_finite(p_worse, metric)),
        method=method,
        num_examples=candidate.num_examples,
        num_only_candidate=None if pairs is None else pairs[0],
        num_only_other=None if pairs is None else pairs[1],
        num_needed=_find_num_needed(bootstrap, metric, gain - min_gain, alpha),
    )


def ensure_finite(p_value: float, metric: str) -> float:
    """A p-value, which has to be a number: what is no number is less than no limit, and would pass everywhere.

    Raises:
        TunesmithError: It is not finite.
    """
    if not math.isfinite(p_value):
        raise TunesmithError(f"the test of {metric} gave {p_value} for a p-value; nothing is decided.")
    return p_value


def compute_mcnemar(num_more: int, num_fewer: int) -> float:
    """How likely at least `num_more` of the examples that one model alone has right are the first one's, by chance.

    Source: McNemar 1947; exact, by the binomial distribution.
    """
    from scipy.stats import binom

    return float(binom.sf(num_more - 1, num_more + num_fewer, 0.5))


def compute_tango(num_more: int, num_fewer: int, num_examples: int, min_gain: float) -> float:
    """The p-value of the null hypothesis that the difference of two shares of the same examples is `min_gain` at most.

    Args:
        num_more: Examples that the first model alone has right.
        num_fewer: Examples that the second alone has right.
        num_examples: All examples.
        min_gain: In (-1, 1).

    Raises:
        UserError: It is not.

    Source: Tango 1998, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design.
    """
    from scipy.stats import norm

    if not -1 < min_gain < 1:
        raise UserError(f"no two shares differ by {abs(min_gain):g}: what the gate demands has to be below 1.")
    size, difference = float(num_examples), num_more - num_fewer - num_examples * min_gain
    # The likeliest share of examples that the second model alone has right, were the difference `min_gain`.
    linear = -num_more - num_fewer + (2 * size - num_more + num_fewer) * min_gain
    constant = -num_fewer * min_gain * (1 - min_gain)
    share = (math.sqrt(max(0.0, linear**2 - 8 * size * constant)) - linear) / (4 * size)
    variance = size * (2 * share + min_gain * (1 - min_gain))
    if variance <= 0:
        return 1.0 if difference <= 0 else 0.0
    return float(norm.sf(difference / math.sqrt(variance)))


def _test(
    candidate: Measured,
    other: Measured,
    metric: str,
    sign: float,
    min_gain: float,
    bootstrap: Bootstrap,
    pairs: tuple[int, int] | None,
) -> tuple[Method, float, float]:
    """The test, its p-value, and that of a loss."""
    size = candidate.num_examples
    if pairs is not None:
        more, fewer = pairs
        worse = max(0.0, -min_gain)
        p_worse = compute_tango(fewer, more, size, worse) if worse else compute_mcnemar(fewer, more)
        if min_gain == 0:
            return "McNemar's exact test", compute_mcnemar(more, fewer), p_worse
        return "Tango's score test", compute_tango(more, fewer, size, min_gain), p_worse
    if min_gain == 0:
        return "permutation test", *_permute(candidate, other, metric, sign)
    p_worse = 1 - bootstrap.find_tail(metric, min(0.0, min_gain))
    return "bootstrap", bootstrap.find_tail(metric, min_gain), p_worse


def _permute(candidate: Measured, other: Measured, metric: str, sign: float) -> tuple[float, float]:
    """How often a random exchange of the two models' predictions gives as large a gain, and as large a loss."""
    both = candidate.join(other)

    def compute_gain(stays: Draws) -> Mapping[str, Array]:
        ours = both.compute([metric], np.concatenate([stays, 1 - stays], axis=1))[metric]
        theirs = both.compute([metric], np.concatenate([1 - stays, stays], axis=1))[metric]
        return {metric: sign * (ours - theirs)}

    seen = np.round(collect(compute_gain, np.ones((1, candidate.num_examples)))[metric][0], DIGITS)
    gains = np.round(collect(compute_gain, _exchange(candidate.num_examples))[metric], DIGITS)
    num_as_good, num_as_bad = int(np.sum(gains >= seen)), int(np.sum(gains <= seen))
    return (1 + num_as_good) / (NUM_EXCHANGES + 1), (1 + num_as_bad) / (NUM_EXCHANGES + 1)


def _exchange(num_examples: int) -> Iterator[Draws]:
    """Which examples keep the model that predicted for them: 1, and 0 where the other one takes its place."""
    random = np.random.default_rng(SEED)
    size = max(1, MAX_WEIGHTS // (2 * num_examples))
    for start in range(0, NUM_EXCHANGES, size):
        number = min(size, NUM_EXCHANGES - start)
        yield random.integers(0, 2, (number, num_examples), dtype=np.int8).astype(np.float64)


def _find_num_needed(bootstrap: Bootstrap, metric: str, excess: float, alpha: float) -> int | None:
    from scipy.special import ndtri

    spread = bootstrap.find_standard_error(metric) * math.sqrt(bootstrap.num_examples)
    if excess <= 0 or spread == 0:
        return None
    return math.ceil((float(ndtri(1 - alpha) + ndtri(POWER)) * spread / excess) ** 2)


def _round(value: float) -> float:
    return round(value, DIGITS)
