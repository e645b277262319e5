"""The metrics of classification in many draws at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tunesmith.kinds.draws import Array, Draws, Measured, compute_means
from tunesmith.kinds.protocol import LoadMetric

Rank = Callable[[Array, Array, Array], Array]
"""Scores, which examples are positive, and their weights in each draw -> the metric in each draw."""

NUM_BINS = 15
"""Of equal width, by confidence: as in Guo et al. 2017, On Calibration of Modern Neural Networks."""

AVERAGES = ("macro", "micro", "weighted")
COUNTED = {
    "balanced_accuracy": True,
    **{f"{name}_{average}": True for name in ("precision", "recall", "f1") for average in AVERAGES},
    "matthews_correlation": True,
}
"""What follows from how many examples of each class were predicted as each class."""
RANKED = {"roc_auc": True, "average_precision": True}
PROPER = {"log_loss": False, "brier_score": False, "expected_calibration_error": False}
METRICS = {"accuracy": True, **COUNTED, **RANKED, **PROPER}
"""Name of a metric -> whether greater is better."""
RANGES = {
    **dict.fromkeys(METRICS, (0.0, 1.0)),
    "matthews_correlation": (-1.0, 1.0),
    "log_loss": (0.0, math.inf),
    "brier_score": (0.0, 2.0),
}
"""Name of a metric -> the least and the greatest value that it can have."""
MODULES = tuple(dict.fromkeys(name.rpartition("_")[0] if name.endswith(AVERAGES) else name for name in METRICS))
"""The `evaluate` modules that they are of."""


@dataclass(frozen=True)
class Classified(Measured):
    """The classes of some examples, and what a model said.

    Attributes:
        labels: The true class ids, shape (num_examples,).
        predicted: The predicted ones.
        probabilities: Shape (num_examples, num_classes); each row sums to 1.
    """

    labels: Array
    predicted: Array
    probabilities: Array

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return len(self.labels)

    def count_passes(self, name: str) -> int:
        """One, or one a class where their examples are ranked."""
        return self.probabilities.shape[1] if name in RANKED else 1

    def compute(self, names: Sequence[str], draws: Draws) -> dict[str, Array]:
        """Metrics in each draw. A class that a draw knows nothing of counts for nothing in a mean over classes."""
        found: dict[str, Array] = {}
        if "accuracy" in names:
            found["accuracy"] = compute_means(self.labels == self.predicted, draws)
        if any(name in COUNTED for name in names):
            found |= count_classes(self, draws).compute_metrics()
        for name, rank in (("roc_auc", compute_roc_auc), ("average_precision", compute_average_precision)):
            if name in names:
                found[name] = _over_classes(self, draws, rank)
        if "log_loss" in names:
            found["log_loss"] = compute_means(-np.log(self._probability_of_label()), draws)
        if "brier_score" in names:
            found["brier_score"] = compute_means(self._squared_distances(), draws)
        if "expected_calibration_error" in names:
            found["expected_calibration_error"] = _compute_calibration_error(self, draws)
        return {name: found[name] for name in names}

    def find_correct(self, name: str) -> Array | None:
        """Whether each example is right, for accuracy."""
        return self.labels == self.predicted if name == "accuracy" else None

    def join(self, other: Measured) -> Classified:
        """The examples of both."""
        other = cast(Classified, other)
        parts = ((self.labels, other.labels), (self.predicted, other.predicted))
        labels, predicted = (np.concatenate(pair) for pair in parts)
        return Classified(labels, predicted, np.concatenate([self.probabilities, other.probabilities]))

    def _probability_of_label(self) -> Array:
        found = self.probabilities[np.arange(len(self.labels)), self.labels]
        return cast(Array, np.maximum(found, np.finfo(np.float64).eps))  # as scikit-learn clips it

    def _squared_distances(self) -> Array:
        """Per example, over all classes; of two classes half of it, which is the Brier score of the second."""
        distances = ((self.probabilities - np.eye(self.probabilities.shape[1])[self.labels]) ** 2).sum(axis=1)
        return cast(Array, distances / 2 if self.probabilities.shape[1] == 2 else distances)


@dataclass(frozen=True)
class ClassCounts:
    """Weights by class, each of shape (num_draws, num_classes).

    Attributes:
        correct: Of the examples of a class that were predicted as it.
        support: Of all examples of a class.
        predicted: Of all that were predicted as it.
    """

    correct: Array
    support: Array
    predicted: Array

    def compute_metrics(self) -> dict[str, Array]:
        """All metrics of COUNTED, each of shape (num_draws,)."""
        by_class = self.compute_by_class()
        is_known = self.support + self.predicted > 0
        has_support = self.support > 0
        total = self.support.sum(axis=1)
        accuracy = divide(self.correct.sum(axis=1), total)
        found = {"balanced_accuracy": _mean_where(by_class["recall"], has_support)}
        for name, values in by_class.items():
            found[f"{name}_macro"] = _mean_where(values, is_known)
            found[f"{name}_micro"] = accuracy
            found[f"{name}_weighted"] = divide((values * self.support).sum(axis=1), total)
        found["matthews_correlation"] = self._compute_matthews(total)
        return found

    def compute_by_class(self) -> dict[str, Array]:
        """Precision, recall and F1 of each class; zero where they are not defined, as scikit-learn has it."""
        return {
            "precision": divide(self.correct, self.predicted),
            "recall": divide(self.correct, self.support),
            "f1": divide(2 * self.correct, self.support + self.predicted),
        }

    def _compute_matthews(self, total: Array) -> Array:
        agreement = self.correct.sum(axis=1) * total - (self.support * self.predicted).sum(axis=1)
        spread = (total**2 - (self.support**2).sum(axis=1)) * (total**2 - (self.predicted**2).sum(axis=1))
        return divide(agreement, np.sqrt(spread))


def count_classes(classified: Classified, draws: Draws) -> ClassCounts:
    """Add up the weights of each class in each draw."""
    from scipy.sparse import csr_array

    num_examples, num_classes = classified.probabilities.shape
    places = np.arange(num_examples + 1)

    def add_up(weights: Array, classes: Array) -> Array:
        # The transpose of a sparse matrix times a dense one: one pass over the draws.
        return cast(Array, draws @ csr_array((weights, classes, places), shape=(num_examples, num_classes)))

    ones = np.ones(num_examples)
    return ClassCounts(
        add_up((classified.labels == classified.predicted).astype(np.float64), classified.labels),
        add_up(ones, classified.labels),
        add_up(ones, classified.predicted),
    )


def compute_by_modules(classified: Classified, metric: LoadMetric) -> dict[str, float]:
    """Every metric over all examples, by its `evaluate` module."""
    classes = {"predictions": classified.predicted, "references": classified.labels}
    scores = {"prediction_scores": classified.probabilities, "references": classified.labels}
    found = {}
    for name in METRICS:
        module, _, average = name.rpartition("_")
        if average in AVERAGES:
            found[name] = metric(module).compute(**classes, average=average)[module]
        else:
            found[name] = metric(name).compute(**(scores if name in {**RANKED, **PROPER} else classes))[name]
    return found


def softmax(logits: Array) -> Array:
    """Probabilities in float64 that add up to 1 in each row; of logits of shape (num_examples, num_classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return cast(Array, shifted / shifted.sum(axis=1, keepdims=True))


def compute_roc_auc(scores: Array, is_positive: Array, weights: Array) -> Array:
    """The chance that a positive example has a higher score than a negative one; of equal scores, half of it.

    Args:
        scores: Shape (num_examples,); higher is more positive.
        is_positive: Shape (num_examples,).
        weights: Of the examples in each draw, shape (num_examples, num_draws).
    """
    order, starts, ends = _rank(scores)
    places = np.flatnonzero(is_positive[order])
    negatives = _add_up(weights[order] * ~is_positive[order, None])
    positives = weights[order[places]]
    below = (negatives[starts[places]] + negatives[ends[places]]) / 2
    return _divide_or_nan((positives * below).sum(axis=0), positives.sum(axis=0) * negatives[-1])


def compute_average_precision(scores: Array, is_positive: Array, weights: Array) -> Array:
    """The mean precision at the scores of the positive examples; takes what `compute_roc_auc` takes."""
    order, _, ends = _rank(-scores)
    places = np.flatnonzero(is_positive[order])
    positives = weights[order[places]]
    # How many positive ones there are up to the end of each one's group of equal scores.
    found = _add_up(positives)[np.searchsorted(places, ends[places])]
    precision = divide(found, _add_up(weights[order])[ends[places]])
    return _divide_or_nan((positives * precision).sum(axis=0), positives.sum(axis=0))


def find_bins(confidence: Array) -> Array:
    """The bin of each confidence, from 0: bins are open on the left and closed on the right."""
    return cast(Array, np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1))


def divide(numerator: Array, denominator: Array) -> Array:
    """The quotient, and zero where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return cast(Array, np.where(denominator > 0, numerator / denominator, 0.0))


def _divide_or_nan(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return cast(Array, np.where(denominator > 0, numerator / denominator, np.nan))


def _mean_where(values: Array, is_counted: Array) -> Array:
    return divide((values * is_counted).sum(axis=1), is_counted.sum(axis=1))


def _rank(scores: Array) -> tuple[Array, Array, Array]:
    """The ascending order of scores, and in it where the group of equal scores that each belongs to starts and ends."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.searchsorted(ordered, ordered, side="left"), np.searchsorted(ordered, ordered, side="right")


def _add_up(weights: Array) -> Array:
    """How much the first examples weigh: none, one, two and so on, shape (num_examples + 1, num_draws)."""
    sums = np.empty((len(weights) + 1, weights.shape[1]))
    sums[0] = 0
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _over_classes(classified: Classified, draws: Draws, rank: Rank) -> Array:
    """The mean over classes of each against the rest, those without examples or without others left out.

    With two classes it is that of the second, as everywhere.
    """
    num_classes = classified.probabilities.shape[1]
    classes = [1] if num_classes == 2 else np.unique(classified.labels)
    weights = np.ascontiguousarray(draws.T)
    found = [rank(classified.probabilities[:, number], classified.labels == number, weights) for number in classes]
    values = np.stack(found)
    is_known = ~np.isnan(values)
    return _divide_or_nan(np.where(is_known, values, 0.0).sum(axis=0), is_known.sum(axis=0))


def _compute_calibration_error(classified: Classified, draws: Draws) -> Array:
    confidence = classified.probabilities.max(axis=1)
    gaps = (classified.labels == classified.predicted) - confidence
    in_bin = find_bins(confidence)[:, None] == np.arange(NUM_BINS)
    return _divide_or_nan(np.abs(draws @ (gaps[:, None] * in_bin)).sum(axis=1), draws.sum(axis=1))
