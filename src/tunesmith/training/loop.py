"""The engine `loop`: our PyTorch loop on accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from torch.optim.lr_scheduler import LambdaLR

from tunesmith.errors import Preempted
from tunesmith.modeling.caching import without_cache
from tunesmith.training.best import Best
from tunesmith.training.checkpoints import SPOOL, Checkpoints, Position, read_position
from tunesmith.training.gradient import GradientSum, find_limit
from tunesmith.training.job import Job
from tunesmith.training.meter import LossMeter, metered
from tunesmith.training.optimizer import build_optimizer
from tunesmith.training.precision import Precision, choose_precision
from tunesmith.training.prepared import Prepared, Step, prepare, seed_everything
from tunesmith.training.processes import find_rank, is_true_anywhere, wait_for_all
from tunesmith.training.randomness import load_randomness, save_randomness
from tunesmith.training.reporter import Progress, Reporter
from tunesmith.training.rows import epoch_row, step_row
from tunesmith.training.shards import put_together
from tunesmith.training.state import load_optimizer, load_weights, save_state
from tunesmith.training.trained import Trained, find_whole_model
from tunesmith.training.validation import compute_validation_loss

RANDOMNESS = "randomness-{}.pt"
"""That of each process."""


def run(job: Job, reporter: Reporter) -> Trained:
    """Train from the start or from the job's checkpoint, to the last step.

    Raises:
        Preempted: The reporter asked to stop; a checkpoint was written.
        TrainingError: A loss is not finite.
        UserError: The base model or the precision cannot be used.
    """
    precision = choose_precision(job.train.precision, PartialState().device)
    prepared = prepare(job)
    loop = _Loop(job, prepared, reporter, precision)
    with without_cache(prepared.model), loop.checkpoints:
        loop.begin()
        loop.train()
        return loop.finish()


class _Loop:
    """The state of a training."""

    def __init__(self, job: Job, prepared: Prepared, reporter: Reporter, precision: Precision) -> None:
        self.job, self.config, self.prepared, self.reporter = job, job.train, prepared, reporter
        self.schedule = prepared.schedule
        self.device = PartialState().device
        self.precision = precision
        self.accelerator = Accelerator(mixed_precision="bf16" if self.precision == "bf16" else "no")
        optimizer = build_optimizer(prepared.model, self.config)
        # Not as for training: with several processes it would be wrapped in DDP, see `add_up_gradients`.
        self.model = self.accelerator.prepare_model(prepared.model, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.gradient = GradientSum(
            prepared.loss,
            self.device,
            find_limit(job, Position()),
            reporter.limit_micro_batches,
            is_sharded=self.config.fsdp,
        )
        self.scheduler = LambdaLR(optimizer, self.schedule.learning_rate_factor)
        self.checkpoints = Checkpoints(job.work)
        self.meter = LossMeter()
        self.step = 0
        self.epoch = 0.0
        self.place: dict[str, Any] | None = None
        self.num_validated_epochs = 0
        self.best = Best()
        self.seconds_before = 0.0

    def begin(self) -> None:
        """Seed everything, or go back to the checkpoint."""
        seed_everything(self.config.seed)
        if self.job.checkpoint is not None:
            self._restore(self.job.checkpoint)
        num_parameters, num_trainable = self.prepared.count_parameters()
        progress = Progress(
            device=self.device.type,
            precision=self.precision,
            batching=self.prepared.batching.way,
            why_batching=self.prepared.batching.why,
            num_parameters=num_parameters,
            num_trainable_parameters=num_trainable,
            num_absent_tokens=self.prepared.num_absent_tokens,
            step=self.step,
            first_step=self.step,
            epoch=self.epoch,
            num_steps=self.schedule.num_steps,
            num_epochs=self.schedule.num_epochs if self.prepared.stream is None else 0,
        )
        self.reporter.begin(progress, None if self.job.checkpoint is None else self.job.checkpoint / SPOOL)

    def train(self) -> None:
        """Take all the steps that are left."""
        self.model.train()
        for epoch in range(self.num_validated_epochs, self.schedule.num_epochs):
            if self.best.should_stop(self.config):
                break
            for step in self.prepared.steps(epoch, self.step):
                self._take_step(step)
                self._after_step()
            self._end_epoch()

    def finish(self) -> Trained:
        """The trained model: that of the last step, or the best."""
        self.prepared.close()
        self.checkpoints.wait()
        wait_for_all()  # the first process alone publishes them
        kept_step = self.best.step_to_keep(self.config)
        if kept_step not in (None, self.step):
            load_weights(self.checkpoints.find_step(kept_step), self.prepared.model)
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return Trained(
            find_whole_model(self.job, model, self.schedule, kept_step or self.step),
            seconds=self.seconds_before + self.reporter.seconds,
            best=self.best,
            padding_fraction=self.meter.padding_fraction,
            max_micro_batch_tokens=self.gradient.max_tokens,
        )

    def _take_step(self, step: Step) -> None:
        loss = self.gradient.add(self.model, step)
        grad_norm = put_together(self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        learning_rate = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.epoch, self.place = step.epoch, step.place
        self.meter.add(metered(self.step, step, loss, grad_norm, learning_rate))
        self.reporter.advance(self.step, self.epoch, step.num_examples)

    def _after_step(self) -> None:
        if self.schedule.is_logging_step(self.step):
            self.reporter.log(step_row(self.step, self.epoch, self.meter.take_row()))
        if is_true_anywhere(self.reporter.should_stop):
            self._stop()
        if self.schedule.is_save_step(self.step) and not self.schedule.ends_epoch(self.step):
            self._save()

    def _end_epoch(self) -> None:
        try:
            validation_loss = compute_validation_loss(
                self.model, self.prepared, self.gradient, self.reporter, may_stop=True
            )
        except Preempted:
            self._stop()
        self.reporter.log(epoch_row(self.step, self.epoch, self.meter.take_epoch(), validation_loss))
        self.num_validated_epochs += 1
        self.best = self.best.after(self.step, validation_loss)
        if self.schedule.is_save_step(self.step) or self.best.needs_checkpoint(self.step, self.schedule):
            self._save()

    def _stop(self) -> None:
        self._save()
        raise Preempted(f"stopped after step {self.step}")

    def _save(self) -> None:
        self.reporter.enter("saving")
        position = Position(
            step=self.step,
            num_validated_epochs=self.num_validated_epochs,
            seconds=self.seconds_before + self.reporter.seconds,
            meter=self.meter.state(),
            stream=self.place,
            best=self.best,
            max_micro_batch_tokens=self.gradient.agree_on_limit(),
            kept_step=self.best.step_to_keep(self.config),
        )
        if find_rank() == 0:
            self.checkpoints.make_room()
        folder = self.checkpoints.aside(self.step)
        save_randomness(folder / RANDOMNESS.format(find_rank()))
        save_state(folder, self.prepared.model, self.optimizer, self.scheduler)
        wait_for_all()
        if find_rank() == 0:
            self.checkpoints.publish(folder, position, self.job.spool, self.job.quarantine)
        self.reporter.enter("training")

    def _restore(self, folder: Path) -> None:
        load_weights(folder, self.prepared.model)
        load_optimizer(folder, self.prepared.model, self.optimizer, self.scheduler)
        load_randomness(folder / RANDOMNESS.format(find_rank()))
        position = read_position(folder)
        self.step, self.num_validated_epochs = position.step, position.num_validated_epochs
        self.place, self.best = position.stream, position.best
        self.epoch = self.step / self.schedule.steps_per_epoch if self.place is None else self.place["epoch"]
        self.prepared.resume(self.place)
        self.seconds_before = position.seconds
        self.meter.restore(position.meter)
        self.gradient.max_tokens = find_limit(self.job, position)
