"""The loss that training minimises: the model's own, or with label smoothing and class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tunesmith.errors import UserError
from tunesmith.training.config import TrainConfig

IGNORED = -100
"""The label of what is not predicted."""

Batch = Mapping[str, Tensor]


class Loss:
    """The mean cross entropy over the targets of a step, each with the weight of its class.

    Args:
        config: Says how labels are smoothed.
        class_weights: One for each class, shape (num_classes,); None where all are equal.
    """

    def __init__(self, config: TrainConfig, class_weights: Tensor | None) -> None:
        self._smoothing = config.label_smoothing
        self._weights = class_weights

    def weigh(self, batch: Batch) -> Tensor:
        """What the mean over a batch is divided by: its targets, each with its weight; a scalar."""
        targets = find_targets(batch["labels"])
        if self._weights is None:
            return targets.ne(IGNORED).sum()
        return self._weights.to(targets.device)[targets[targets.ne(IGNORED)]].sum()

    def compute(self, model: Any, batch: Batch) -> Tensor:
        """The mean over a batch, where the model lies; a scalar."""
        if not self._smoothing and self._weights is None:
            plain: Tensor = model(**batch).loss
            return plain
        logits = model(**{name: values for name, values in batch.items() if name != "labels"}).logits
        targets = find_targets(batch["labels"])
        if targets.ndim > 1:
            logits = logits[:, :-1]
        return cross_entropy(
            logits.flatten(0, -2).float(),
            targets.flatten(),
            weight=None if self._weights is None else self._weights.to(logits.device),
            ignore_index=IGNORED,
            label_smoothing=self._smoothing,
        )


def find_targets(labels: Tensor) -> Tensor:
    """What is predicted: a label a row, or each token of a row but the first, as causal models do."""
    return labels if labels.ndim == 1 else labels[:, 1:]


def find_class_weights(
    asked: Literal["balanced"] | Mapping[str, float] | None,
    labels: Sequence[str],
    train_labels: np.ndarray[Any, Any],
    *,
    may_lack_labels: bool = False,
) -> Tensor | None:
    """The weight of each class, in id order; None where all are equal.

    Args:
        asked: What the recipe says. `balanced` weighs a class by num_examples / (num_classes * its examples), so that
            all classes count alike, and the mean weight of an example is 1.
        labels: The label set in id order.
        train_labels: The class id of each training example, shape (num_examples,).
        may_lack_labels: Whether a class may have no example here; its weight is 0 then, which label smoothing heeds.

    Raises:
        UserError: A class without an example cannot be balanced.
    """
    if asked is None:
        return None
    if asked != "balanced":
        return torch.tensor([float(asked.get(label, 1.0)) for label in labels])
    counts = np.bincount(train_labels, minlength=len(labels))
    if not counts.all() and not may_lack_labels:
        missing = labels[int(counts.argmin())]
        raise UserError(
            f"train.class_weights: balanced: the train split has no example of {missing!r}, so its weight would be "
            "infinite. Add examples, take the label out of examples.labels, or write the weights yourself."
        )
    weights = np.divide(len(train_labels), len(labels) * counts, out=np.zeros(len(labels)), where=counts > 0)
    return torch.from_numpy(weights).float()
