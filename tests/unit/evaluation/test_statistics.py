"""The statistics keep what they promise, on simulated models whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunesmith.evaluation.comparison import compare, compute_mcnemar, compute_tango
from tunesmith.evaluation.intervals import CONFIDENCE, Bootstrap, compute_intervals
from tunesmith.kinds.class_metrics import Classified

NUM_SIMULATED = 1000


def simulate(random, num_examples, accuracy, num_classes=2, sureness=1.0, labels=None):
    """A model that is right with a chance of `accuracy`, and its probabilities, which say so more or less."""
    if labels is None:
        labels = random.integers(num_classes, size=num_examples)
    is_right = random.random(len(labels)) < accuracy
    predicted = np.where(is_right, labels, (labels + random.integers(1, num_classes, len(labels))) % num_classes)
    logits = random.normal(0, 0.3, (len(labels), num_classes))
    logits[np.arange(len(labels)), predicted] = logits.max(axis=1) + sureness * random.random(len(labels)) + 0.1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Classified(labels, predicted, probabilities)


@pytest.mark.parametrize(
    ("name", "num_examples", "accuracy"),
    [
        ("accuracy", 200, 0.85),
        ("accuracy", 1000, 0.95),
        ("f1_macro", 400, 0.8),
        ("matthews_correlation", 400, 0.8),
        ("log_loss", 300, 0.8),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(name, num_examples, accuracy):
    random = np.random.default_rng(7)
    truth = simulate(random, 400_000, accuracy).compute([name], np.ones((1, 400_000)))[name][0]
    num_held = 0
    for _ in range(NUM_SIMULATED):
        model = simulate(random, num_examples, accuracy)
        bootstrap = Bootstrap(lambda draws, model=model: model.compute([name], draws), num_examples, 400)
        interval = bootstrap.find_interval(name, CONFIDENCE)
        num_held += interval.low <= truth <= interval.high
    print(f"{name}: {num_held / NUM_SIMULATED:.1%} of the intervals hold the truth")
    assert 0.93 <= num_held / NUM_SIMULATED <= 0.97


def test_an_interval_is_the_same_each_time_and_holds_its_metric():
    model = simulate(np.random.default_rng(0), 300, 0.8, num_classes=4)
    names = ["accuracy", "f1_macro", "roc_auc", "log_loss", "brier_score", "balanced_accuracy"]
    found = compute_intervals(model, names)
    assert found == compute_intervals(model, names)
    values = model.compute(names, np.ones((1, 300)))
    for name in names:
        assert found[name].low < values[name][0] < found[name].high


def test_the_interval_of_a_mean_is_that_of_scipy():
    model = simulate(np.random.default_rng(1), 250, 0.9)
    values = -np.log(model.probabilities[np.arange(250), model.labels])
    reference = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=5000, rng=np.random.default_rng(0))
    found = compute_intervals(model, ["log_loss"])["log_loss"]
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.003)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.003)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_model_that_is_always_right_or_always_wrong_is_not_known_to_be_so_for_ever(accuracy):
    model = simulate(np.random.default_rng(0), 50, accuracy)
    interval = compute_intervals(model, ["accuracy"])["accuracy"]
    exact = stats.binomtest(round(50 * accuracy), 50).proportion_ci(0.95)
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_the_paired_tests_are_those_of_scipy_and_of_the_paper():
    for more, fewer in ((0, 0), (5, 0), (12, 7), (3, 9), (40, 25)):
        reference = stats.binomtest(more, more + fewer, alternative="greater").pvalue if more + fewer else 1.0
        assert compute_mcnemar(more, fewer) == pytest.approx(reference)
    # Without a gain to be tested against, it is McNemar's test without its correction.
    assert compute_tango(40, 25, 500, 0.0) == pytest.approx(stats.norm.sf((40 - 25) / np.sqrt(65)))
    # Tango 1998, table V: 43 of 44 pairs agree on success, one only by the new; margin 0.1 in favour.
    assert compute_tango(0, 1, 44, -0.1) == pytest.approx(stats.norm.sf(1.709), abs=2e-4)


@pytest.mark.parametrize(("name", "min_gain"), [("accuracy", 0.0), ("accuracy", 0.01), ("f1_macro", 0.0)])
def test_equally_good_models_are_promoted_at_most_alpha_of_the_time(name, min_gain):
    random, alpha = np.random.default_rng(3), 0.05
    num_simulated = NUM_SIMULATED if name == "accuracy" else 100
    num_promoted = 0
    for _ in range(num_simulated):
        labels = random.integers(2, size=500)
        champion, candidate = (simulate(random, 500, accuracy, labels=labels) for accuracy in (0.8, 0.8 + min_gain))
        found = compare(candidate, champion, name, greater_is_better=True, min_gain=min_gain, alpha=alpha)
        num_promoted += found.p_value <= alpha
    print(f"{name}, gain {min_gain}: {num_promoted / num_simulated:.1%} promoted")
    error = 1.6 * np.sqrt(alpha * (1 - alpha) / num_simulated)  # of the simulation; one-sided, 95 %
    assert num_promoted / num_simulated <= alpha + error


def test_a_model_three_points_better_on_two_thousand_examples_is_promoted_four_times_of_five():
    random, num_promoted, num_simulated = np.random.default_rng(4), 0, 200
    for _ in range(num_simulated):
        labels = random.integers(4, size=2000)
        champion, candidate = (simulate(random, 2000, accuracy, 4, labels=labels) for accuracy in (0.85, 0.88))
        found = compare(candidate, champion, "accuracy", greater_is_better=True, min_gain=0.0, alpha=0.05)
        num_promoted += found.p_value <= 0.05
    print(f"3 points better: {num_promoted / num_simulated:.1%} promoted")
    assert num_promoted / num_simulated >= 0.8
