"""The rows of metrics that both engines write."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.training.spool import Row


def step_row(step: int, epoch: float, metrics: Mapping[str, float]) -> Row:
    """A row after a step: `train/loss`, `train/learning_rate` and `train/grad_norm`."""
    return {"step": step, "epoch": epoch, "metrics": dict(metrics)}


def epoch_row(step: int, epoch: float, train_loss: float, validation_loss: float) -> Row:
    """A row after a validation: the mean training loss since the one before, and the validation loss."""
    return step_row(step, epoch, {"train/epoch_loss": train_loss, "validation/loss": validation_loss})
