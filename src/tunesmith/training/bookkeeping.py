"""What the engine `trainer` writes and remembers, as a callback of the Trainer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith.errors import Preempted
from tunesmith.training.checkpoints import Checkpoints, Position
from tunesmith.training.gradient import GradientSum
from tunesmith.training.job import Job
from tunesmith.training.meter import LossMeter, metered
from tunesmith.training.prepared import Step
from tunesmith.training.processes import find_rank, is_true_anywhere, wait_for_all
from tunesmith.training.reporter import Reporter
from tunesmith.training.rows import epoch_row, step_row
from tunesmith.training.schedule import Schedule
from tunesmith.training.spool import Row

TRAINER_FOLDER = "aside/trainer"
"""Where the Trainer writes, below the work folder."""


class Bookkeeping(TrainerCallback):
    """Decides when a row is written, a checkpoint saved and training stopped.

    It comes behind other callbacks, and has the last word.

    Args:
        job: What to do.
        schedule: The steps.
        reporter: Gets the rows, and says when to stop.
        position: Where the training begins.
        gradient: Knows how much goes through the model at once.
    """

    def __init__(
        self, job: Job, schedule: Schedule, reporter: Reporter, position: Position, gradient: GradientSum
    ) -> None:
        self.job, self.schedule, self.reporter, self.gradient = job, schedule, reporter, gradient
        self.checkpoints = Checkpoints(job.work)
        self.meter = LossMeter()
        self.num_validated_epochs, self.best = position.num_validated_epochs, position.best
        self.seconds_before = position.seconds
        self.step: Step | None = None
        self.loss = self.grad_norm = torch.zeros(())
        self.learning_rate = 0.0
        self.tell: Callable[[Row], None] = lambda _row: None
        """What else is done with a row."""
        self.first_step, self.place = position.step, position.stream
        self.has_ended = position.has_ended
        if position.meter:
            self.meter.restore(position.meter)

    @property
    def seconds(self) -> float:
        """How long training took so far, over all attempts."""
        return self.seconds_before + self.reporter.seconds

    def find_epoch(self, step: int) -> float:
        """How many epochs are done behind the last step."""
        return step / self.schedule.steps_per_epoch if self.place is None else float(self.place["epoch"])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the learning rate of the step before it changes."""
        self.learning_rate = float(kwargs["lr_scheduler"].get_last_lr()[0])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the step; write a row or a checkpoint where one is due."""
        step = state.global_step
        assert self.step is not None
        self.place = self.step.place
        self.meter.add(metered(step, self.step, self.loss, self.grad_norm, self.learning_rate))
        self.reporter.advance(step, self.find_epoch(step), self.step.num_examples)
        if self.schedule.is_logging_step(step):
            self._log(step_row(step, self.find_epoch(step), self.meter.take_row()))
        # Whatever other callbacks have asked for; they may only end the training.
        control.should_evaluate = control.should_log = control.should_epoch_stop = False
        self._agree_to_stop(control)
        # At an epoch's last step the checkpoint waits for the validation: the Trainer would not validate it later.
        control.should_save = self._is_asked_to_save(step) and not self.schedule.ends_epoch(step)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Validate, and nothing else, whatever other callbacks have asked for."""
        control.should_evaluate, control.should_log, control.should_save = True, False, False

    def end_validation(self, step: int, validation_loss: float, control: TrainerControl) -> None:
        """Write an epoch's row; save where it is due, but not after the last step: the Trainer would take one more."""
        self._log(epoch_row(step, self.find_epoch(step), self.meter.take_epoch(), validation_loss))
        self.num_validated_epochs += 1
        self.best = self.best.after(step, validation_loss)
        self._agree_to_stop(control)
        self.has_ended = control.should_training_stop
        control.should_training_stop |= self.best.should_stop(self.schedule.config)
        is_due = self._is_asked_to_save(step) or self.best.needs_checkpoint(step, self.schedule)
        control.should_save = is_due and step != self.schedule.num_steps

    def _agree_to_stop(self, control: TrainerControl) -> None:
        """Each process has callbacks of its own, of which one may have ended the training."""
        if self.job.train.callbacks:
            control.should_training_stop = is_true_anywhere(control.should_training_stop)

    def _log(self, row: Row) -> None:
        self.reporter.log(row)
        self.tell(row)

    def _is_asked_to_save(self, step: int) -> bool:
        return is_true_anywhere(self.reporter.should_stop) or self.schedule.is_save_step(step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the folder that the Trainer has just written, and stop if asked to."""
        control.should_epoch_stop = False
        self._agree_to_stop(control)
        written = self.job.work / TRAINER_FOLDER / f"checkpoint-{state.global_step}"
        if control.should_training_stop and not self.has_ended and not self.best.should_stop(self.job.train):
            # A callback has just ended the training: going on from here, nobody would. It is saved once validated.
            wait_for_all()
            if find_rank() == 0:
                shutil.rmtree(written)
            return
        self.reporter.enter("saving")
        position = Position(
            step=state.global_step,
            num_validated_epochs=self.num_validated_epochs,
            seconds=self.seconds,
            meter=self.meter.state(),
            stream=self.place,
            best=self.best,
            max_micro_batch_tokens=self.gradient.agree_on_limit(),
            kept_step=self.best.step_to_keep(self.job.train),
            has_ended=self.has_ended,
        )
        wait_for_all()  # each has written the state of its random numbers
        if find_rank() == 0:
            self.checkpoints.publish(written, position, self.job.spool, self.job.quarantine)
        self.reporter.enter("training")
        if is_true_anywhere(self.reporter.should_stop):
            raise Preempted(f"stopped after step {state.global_step}")
