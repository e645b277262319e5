"""Metrics of many draws at a time are those of each draw, by the metric's own module."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluation.metric import load_metric
from tunesmith.kinds import class_metrics, token_metrics
from tunesmith.kinds.class_metrics import Classified
from tunesmith.kinds.token_metrics import Predicted


def make_classified(num_classes, num_examples=120, seed=0):
    random = np.random.default_rng(seed)
    probabilities = np.round(random.dirichlet(np.ones(num_classes), num_examples), 2) + 1e-3  # with equal ones
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = random.integers(num_classes, size=num_examples)
    is_right = random.random(num_examples) < 0.5
    probabilities[is_right, labels[is_right]] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Classified(labels, probabilities.argmax(axis=1), probabilities)


def compute_by_module(classified, name, counts):
    rows = np.repeat(np.arange(classified.num_examples), counts.astype(int))
    labels = classified.labels[rows].tolist()
    module, _, average = name.rpartition("_") if name.endswith(("_macro", "_micro", "_weighted")) else (name, "", "")
    if name in class_metrics.RANKED or name in class_metrics.PROPER:
        scores = classified.probabilities[rows]
        return load_metric(module).compute(prediction_scores=scores, references=labels)[module]
    options = {"average": average} if average else {}
    predicted = classified.predicted[rows].tolist()
    return load_metric(module).compute(predictions=predicted, references=labels, **options)[module]


@pytest.mark.parametrize("num_classes", [2, 3, 17])
@pytest.mark.parametrize("name", class_metrics.METRICS)
def test_a_metric_of_classification_equals_its_module_in_every_draw(name, num_classes):
    classified = make_classified(num_classes)
    draws = np.random.default_rng(1).integers(0, 3, (4, classified.num_examples)).astype(float)
    draws[0] = 1
    draws[1, classified.labels == 1] = 0  # nobody has the label
    draws[2, (classified.labels == 1) | (classified.predicted == 1)] = 0  # nor is it predicted
    if num_classes == 2:
        draws = draws[[0, 3]]
    found = classified.compute([name], draws)
    assert set(found) == {name}
    expected = [compute_by_module(classified, name, counts) for counts in draws]
    np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", token_metrics.METRICS)
def test_a_metric_of_tokens_equals_its_module_in_every_draw(name):
    random = np.random.default_rng(0)
    num_tokens = random.integers(1, 50, 40)
    predicted = Predicted(
        num_tokens * random.random(40) * 3, num_tokens, np.where(random.random(40) < 0.4, num_tokens, num_tokens - 1)
    )
    draws = random.integers(0, 3, (5, 40)).astype(float)
    columns = {"perplexity": "nll", "token_accuracy": "num_correct", "sequence_accuracy": "num_correct"}
    expected = []
    for counts in draws:
        rows = np.repeat(np.arange(40), counts.astype(int))
        values = {column: getattr(predicted, column)[rows].tolist() for column in (columns[name], "num_tokens")}
        expected.append(load_metric(name).compute(**values)[name])
    np.testing.assert_allclose(predicted.compute([name], draws)[name], expected, rtol=0, atol=1e-9)


def test_all_metrics_of_a_draw_come_together_and_in_the_order_asked_for():
    classified = make_classified(3)
    names = ["f1_macro", "accuracy", "log_loss"]
    found = classified.compute(names, np.ones((1, classified.num_examples)))
    assert list(found) == names


def test_two_models_examples_one_behind_the_other_weigh_as_they_did_apart():
    one, other = make_classified(3, seed=0), make_classified(3, seed=1)
    stays = np.random.default_rng(0).integers(0, 2, (3, one.num_examples)).astype(float)
    both = one.join(other).compute(["f1_macro"], np.concatenate([stays, np.zeros_like(stays)], axis=1))
    np.testing.assert_allclose(both["f1_macro"], one.compute(["f1_macro"], stays)["f1_macro"])
