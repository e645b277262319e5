"""How far counts have moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from tunesmith.data.stability import chance_psi, compute_psi, compute_total_variation, judge_counts


def test_the_index_is_the_sum_of_differences_times_their_logarithms():
    expected = 0.1 * math.log(0.6 / 0.5) + -0.1 * math.log(0.4 / 0.5)
    assert compute_psi([500_000, 500_000], [600_000, 400_000]) == pytest.approx(expected, rel=1e-4)
    assert compute_psi([3, 4, 5], [30, 40, 50]) == pytest.approx(0, abs=0.01)


def test_a_group_that_was_empty_gives_a_finite_index():
    assert 0.1 < compute_psi([0, 1000], [100, 900]) < 1


def test_total_variation_is_the_share_of_rows_that_would_have_to_move():
    assert compute_total_variation([50, 50], [6, 4]) == pytest.approx(0.1)
    assert compute_total_variation([1, 0], [0, 7]) == 1
    assert compute_total_variation([0, 0], [0, 7]) == 0


@pytest.mark.parametrize("num_groups", [2, 10, 77])
def test_chance_is_the_quantile_of_chi_squared(num_groups):
    expected = chi2.ppf(0.99, num_groups - 1) * (1 / 1000 + 1 / 500)
    assert chance_psi(1000, 500, num_groups) == pytest.approx(expected, rel=0.03)


def test_two_draws_from_the_same_rows_are_hardly_ever_judged_to_differ():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(77) * 5)
    verdicts = [judge_counts(random.multinomial(400, shares), random.multinomial(400, shares))[1] for _ in range(200)]
    assert verdicts.count("stable") >= 194
    assert min(compute_psi(random.multinomial(400, shares), random.multinomial(400, shares)) for _ in range(20)) > 0.1


@pytest.mark.parametrize(
    ("now", "verdict"),
    [((500, 500), "stable"), ((640, 360), "stable"), ((700, 300), "shifted"), ((800, 200), "strongly shifted")],
)
def test_the_usual_limits_decide(now, verdict):
    assert judge_counts((500, 500), now)[1] == verdict


@pytest.mark.parametrize(("before", "now"), [((99, 0), (0, 1000)), ((1000, 0), (0, 99))])
def test_below_a_hundred_rows_nothing_is_said(before, now):
    assert judge_counts(before, now)[1] == "too few rows"
