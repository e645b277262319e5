"""Temperature and reliability."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.kinds.calibration import TEMPERATURES, fit_temperature
from tunesmith.kinds.class_metrics import softmax


def draw(num_examples: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn by the probabilities that the logits stand for."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (num_examples, num_classes)).astype(np.float32)
    sums = np.cumsum(softmax(logits), axis=1)
    return logits, (generator.random((num_examples, 1)) > sums[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_a_model_that_is_too_sure_by_a_factor_gets_that_factor_as_its_temperature(factor, num_classes):
    logits, labels = draw(20_000, num_classes)
    assert fit_temperature(logits * np.float32(factor), labels) == pytest.approx(factor, rel=0.05)


def test_the_temperature_is_where_the_log_loss_is_least():
    logits, labels = draw(500, 3, seed=1)

    def loss(temperature):
        return -np.log(softmax(logits * 2 / temperature)[np.arange(500), labels]).mean()

    found = fit_temperature(logits * 2, labels)
    assert loss(found) <= min(loss(found * 0.999), loss(found * 1.001))


def test_a_model_that_is_always_right_has_a_temperature_within_its_bounds():
    labels = np.arange(30) % 3
    found = fit_temperature(np.eye(3)[labels] * 5, labels)
    assert TEMPERATURES[0] <= found < 0.2
