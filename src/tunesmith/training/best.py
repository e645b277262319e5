"""Which validation was the best so far, and whether going on is in vain."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from tunesmith.training.config import TrainConfig
from tunesmith.training.schedule import Schedule


class Best(BaseModel):
    """The validations so far."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    step: int | None = None
    """The step of the lowest validation loss; None before the first validation."""
    loss: float | None = None
    """The lowest validation loss."""
    num_worse: int = 0
    """Validations since, none of which was lower."""

    def after(self, step: int, loss: float) -> Self:
        """The validations so far, and one more."""
        if self.loss is None or loss < self.loss:
            return self.model_copy(update={"step": step, "loss": loss, "num_worse": 0})
        return self.model_copy(update={"num_worse": self.num_worse + 1})

    def should_stop(self, config: TrainConfig) -> bool:
        """Whether the recipe asks for an end here."""
        return config.early_stopping_patience is not None and self.num_worse >= config.early_stopping_patience

    def needs_checkpoint(self, step: int, schedule: Schedule) -> bool:
        """Whether the model behind the validation of a step may be the result, and training goes on from it."""
        return self.step_to_keep(schedule.config) == step != schedule.num_steps

    def step_to_keep(self, config: TrainConfig) -> int | None:
        """The step whose model will be the result, as far as it is known; None where the last one's will be."""
        return self.step if config.keeps_best else None
