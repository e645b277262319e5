"""The rows of metrics that both engines write."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.training.schedule import Schedule
from tunesmith.training.spool import Row


def step_row(schedule: Schedule, step: int, metrics: Mapping[str, float]) -> Row:
    """A row after a step: `train/loss`, `train/learning_rate` and `train/grad_norm`."""
    return {"step": step, "epoch": step / schedule.steps_per_epoch, "metrics": dict(metrics)}


def epoch_row(schedule: Schedule, step: int, train_loss: float, validation_loss: float) -> Row:
    """A row after an epoch: the mean training loss over the epoch, and the validation loss."""
    return step_row(schedule, step, {"train/epoch_loss": train_loss, "validation/loss": validation_loss})
