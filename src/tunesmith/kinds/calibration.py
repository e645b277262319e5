"""The temperature that makes a classifier as sure of itself as it is right."""

from __future__ import annotations

import numpy as np

from tunesmith.kinds.class_metrics import softmax
from tunesmith.kinds.draws import Array

TEMPERATURES = (0.05, 20.0)
"""Between these the best one is looked for: a model that is always right has none that is best."""
PRECISION = 1e-6
"""Of the logarithm of the temperature."""


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature by which logits have to be divided for the least log loss.

    Args:
        logits: Shape (num_examples, num_classes), of examples that did not train the model.
        labels: True class ids, shape (num_examples,).

    Returns:
        Above 1 where the model is too sure of itself, within `TEMPERATURES`.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def compute_loss(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature))[rows, labels]
        return -float(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)).mean())

    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(compute_loss, bounds=bounds, method="bounded", options={"xatol": PRECISION})
    return round(float(np.exp(found.x)), 4)
