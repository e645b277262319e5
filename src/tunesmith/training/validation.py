"""The loss on the validation split: the same number from both engines."""

from __future__ import annotations

import math
from typing import Any

import torch

from tunesmith.errors import Preempted, TrainingError
from tunesmith.training.gradient import GradientSum
from tunesmith.training.prepared import Prepared
from tunesmith.training.processes import add_up, count_processes, is_true_anywhere, share
from tunesmith.training.reporter import Reporter
from tunesmith.training.shards import is_sharded, sharded_again


def compute_validation_loss(
    model: Any, prepared: Prepared, gradient: GradientSum, reporter: Reporter, *, may_stop: bool
) -> float:
    """The mean loss over all validation targets, of which each process does its share; encode has seen to it that
    there are some.

    Args:
        model: The model, which computes in its own precision; it is put back in training mode.
        prepared: Where the validation split is.
        gradient: Knows where the model is, and how much goes through it at once.
        reporter: Is asked before each batch whether to stop.
        may_stop: Whether stopping in the middle is possible.

    Returns:
        The loss.

    Raises:
        Preempted: The reporter said so; nothing was changed.
        TrainingError: The loss is not finite.
    """
    reporter.enter("validating")
    model.eval()
    total, num_targets = 0.0, 0.0
    with torch.no_grad(), sharded_again(model):
        batches = prepared.validation_batches()
        for start in range(0, len(batches), count_processes()):
            if may_stop and is_true_anywhere(reporter.should_stop):
                raise Preempted("stopped in the middle of the validation")
            found = batches[start : start + count_processes()]
            mine = share(found)  # one, or none
            # A sharded model computes nowhere, unless it does everywhere.
            for rows in mine or (found[:1] if is_sharded(model) else []):
                batch = prepared.validation_batch(rows)
                loss, count = gradient.compute_loss(model, batch)
                total += loss * len(mine)
                num_targets += count * len(mine)
    model.train()
    reporter.enter("training")
    total, num_targets = map(float, add_up(torch.tensor([total, num_targets], dtype=torch.float64)))
    if not math.isfinite(total):
        raise TrainingError(
            f"the validation loss is {total}: the weights have grown without bound. Lower train.learning_rate, "
            "or set train.precision to fp32. The last checkpoints are kept."
        )
    return total / num_targets
