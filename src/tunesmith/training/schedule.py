"""How many steps a training takes, and which examples each of them sees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.errors import UserError
from tunesmith.features.batching import plan_batches
from tunesmith.training.config import TrainConfig


def check_batch_size(config: TrainConfig, num_examples: int) -> None:
    """Refuse steps of more examples than the train split has; not for streams, which have no number.

    Raises:
        UserError: Says both numbers.
    """
    effective = config.common_batch_size * config.gradient_accumulation_steps
    if effective > num_examples:
        raise UserError(
            f"train: a step would take {effective:,} examples (per_device_train_batch_size "
            f"{config.per_device_train_batch_size:,} x gradient_accumulation_steps "
            f"{config.gradient_accumulation_steps:,} x num_processes {config.num_processes:,}), but the train split "
            f"has {num_examples:,}. Lower one of them, so that a step takes {num_examples:,} or fewer."
        )


def check_validations(config: TrainConfig, num_examples: int) -> None:
    """Refuse to keep the best of a single validation, because that many examples are trained on.

    Raises:
        UserError: `max_steps` ends the training in its first epoch.
    """
    plan = Schedule(config, np.empty(num_examples))
    if config.keeps_best and plan.num_epochs == 1:
        name = "early_stopping_patience" if config.early_stopping_patience is not None else "load_best_model_at_end"
        raise UserError(
            f"train.{name} has no effect: max_steps ({config.max_steps:,}) ends the training in its first epoch of "
            f"{plan.steps_per_epoch:,} steps, and so with a single validation. Raise max_steps, or remove {name}."
        )


@dataclass(frozen=True)
class Schedule:
    """The steps of a training.

    Attributes:
        config: How the model is fine-tuned.
        lengths: Tokens of each training example, shape (num_examples,).
        groups: Whether examples of like length share a micro-batch.
    """

    config: TrainConfig
    lengths: np.ndarray[Any, Any]
    groups: bool = False

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of an epoch, in each process."""
        return math.ceil(len(self.lengths) / self.config.common_batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a whole epoch, whose last may have fewer micro-batches; of a stream, those up to a validation."""
        if self.config.validation_steps is not None:
            return self.config.validation_steps
        return math.ceil(self.num_micro_batches / self.config.gradient_accumulation_steps)

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        if self.config.validation_steps is not None:
            assert self.config.max_steps is not None
            return self.config.max_steps
        steps = self.config.num_epochs * self.steps_per_epoch
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)

    @property
    def num_epochs(self) -> int:
        """Epochs that are begun; the last may be cut short by `max_steps`."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    @property
    def num_warmup_steps(self) -> int:
        """Steps in which the learning rate rises from 0; not the last step: one alone would do nothing."""
        return min(math.ceil(self.config.warmup_fraction * self.num_steps), self.num_steps - 1)

    def learning_rate_factor(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` steps, in [0, 1]: as transformers' schedulers do it.

        Written out, because importing theirs imports peft, which takes longer than the rest of torch.
        """
        if step < self.num_warmup_steps:
            return step / self.num_warmup_steps
        left = max(0, self.num_steps - step) / max(1, self.num_steps - self.num_warmup_steps)
        if self.config.lr_scheduler_type == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
        return left if self.config.lr_scheduler_type == "linear" else 1.0

    def learning_rates(self, num_steps: int) -> Iterator[float]:
        """The learning rates of the first steps."""
        return (self.config.learning_rate * self.learning_rate_factor(step) for step in range(num_steps))

    def common_batches(self, epoch: int) -> Sequence[np.ndarray[Any, Any]]:
        """The row numbers that the processes take at once, over an epoch: a function of the seed and the epoch alone.

        So several processes see the batches that one would see of that size; and their examples are of like length.
        """
        return plan_batches(
            self.lengths,
            self.config.common_batch_size,
            group_by_length=self.groups,
            seed=self.config.seed,
            epoch=epoch,
        )

    def steps(self, epoch: int, first_step: int) -> Iterator[Sequence[np.ndarray[Any, Any]]]:
        """The micro-batches of each step of an epoch, of all processes, from a step of the whole training on.

        Args:
            epoch: From 0.
            first_step: How many steps are already done, over all epochs.
        """
        batches, size = self.common_batches(epoch), self.config.gradient_accumulation_steps
        for step in range(first_step, self.last_step(epoch)):
            start = (step - epoch * self.steps_per_epoch) * size
            yield [part for batch in batches[start : start + size] for part in self.divide(batch)]

    def divide(self, batch: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """What the processes take at once, as their micro-batches; of the last of an epoch there may be fewer."""
        size = self.config.per_device_train_batch_size
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    def last_step(self, epoch: int) -> int:
        """How many steps are done when an epoch ends, over all epochs."""
        return min((epoch + 1) * self.steps_per_epoch, self.num_steps)

    def is_logging_step(self, step: int) -> bool:
        """Whether a row of training metrics follows a step."""
        return step % self.config.logging_steps == 0 or step == self.num_steps

    def is_save_step(self, step: int) -> bool:
        """Whether a checkpoint follows a step; at the end of an epoch it follows the validation, too."""
        return step % self.config.save_steps == 0 and step != self.num_steps

    def ends_epoch(self, step: int) -> bool:
        """Whether a validation follows a step."""
        return step % self.steps_per_epoch == 0 or step == self.num_steps
