"""How far counts have moved from earlier ones, and whether chance alone would move them as far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Verdict = Literal["stable", "shifted", "strongly shifted", "too few rows"]

SHIFTED_PSI, STRONGLY_SHIFTED_PSI = 0.1, 0.25
"""The usual limits of the population stability index (Siddiqi 2006, Credit Risk Scorecards)."""
LEAST_ROWS = 100
"""With fewer rows on one side, nothing is said."""
CHANCE_QUANTILE = 2.326
"""How many standard deviations lie above 99 % of a normal distribution."""

Counts = Sequence[float] | np.ndarray[Any, Any]


def compute_psi(before: Counts, now: Counts) -> float:
    """The population stability index: the sum of (now - before) * ln(now / before) over shares.

    Half a row is added to each count, so that one of zero does not make it infinite.

    Args:
        before: Rows in each group, shape (num_groups,).
        now: The same of other rows.

    Returns:
        0 where the shares are equal; without an upper limit.
    """
    old, new = _smooth(before), _smooth(now)
    return float(np.sum((new - old) * np.log(new / old)))


def compute_total_variation(before: Counts, now: Counts) -> float:
    """The share of rows that would have to change groups: half the sum of the shares' differences, in [0, 1]."""
    old, new = np.asarray(before, dtype=np.float64), np.asarray(now, dtype=np.float64)
    if not old.sum() or not new.sum():
        return 0.0
    return float(np.abs(new / new.sum() - old / old.sum()).sum() / 2)


def chance_psi(num_before: float, num_now: float, num_groups: int) -> float:
    """The index that two draws from the same rows exceed once in a hundred times.

    It is a chi-squared quantile over the harmonic size, by the approximation of Wilson and Hilferty.

    Source: Yurdakul and Naranjo 2020, Statistical properties of the population stability index.
    """
    freedom = num_groups - 1
    if freedom < 1 or not num_before or not num_now:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + CHANCE_QUANTILE * spread**0.5) ** 3
    return float(quantile * (1 / num_before + 1 / num_now))


def judge_counts(before: Counts, now: Counts) -> tuple[float, Verdict]:
    """The stability index of counts, and what it says.

    A shift is said only where the index is above the usual limit and above what chance gives: with many groups and few
    rows, chance alone passes the limits.
    """
    psi = compute_psi(before, now)
    num_before, num_now = float(np.sum(before)), float(np.sum(now))
    if min(num_before, num_now) < LEAST_ROWS:
        return psi, "too few rows"
    if psi < SHIFTED_PSI or psi <= chance_psi(num_before, num_now, len(before)):
        return psi, "stable"
    return psi, "shifted" if psi < STRONGLY_SHIFTED_PSI else "strongly shifted"


def _smooth(counts: Counts) -> np.ndarray[Any, np.dtype[np.float64]]:
    smooth = np.asarray(counts, dtype=np.float64) + 0.5
    shares: np.ndarray[Any, np.dtype[np.float64]] = smooth / smooth.sum()
    return shares
