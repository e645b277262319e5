"""The engine `trainer`: transformers' Trainer, with our batches, our rows and our sealed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith.errors import Preempted
from tunesmith.modeling.load import count_parameters
from tunesmith.training.checkpoints import SPOOL, Checkpoints, Position, read_position
from tunesmith.training.job import Job
from tunesmith.training.meter import LossMeter, MeteredStep
from tunesmith.training.optimizer import build_optimizer
from tunesmith.training.precision import Precision, choose_precision
from tunesmith.training.prepared import Batch, Prepared, Step, prepare
from tunesmith.training.reporter import Progress, Reporter
from tunesmith.training.rows import epoch_row, step_row
from tunesmith.training.schedule import Schedule
from tunesmith.training.trained import Trained
from tunesmith.training.validation import compute_validation_loss

TRAINER_FOLDER = "aside/trainer"
"""Where the Trainer writes, below the work folder."""


def run(job: Job, reporter: Reporter) -> Trained:
    """Train from the start or from the job's checkpoint, to the last step.

    Raises:
        Preempted: The reporter asked to stop; a checkpoint was written.
        TrainingError: A loss is not finite.
        UserError: The base model or the precision cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(job.train.precision, device)
    prepared = prepare(job)
    position = Position() if job.checkpoint is None else read_position(job.checkpoint)
    prepared.resume(position.stream)
    bookkeeping = _Bookkeeping(job, prepared.schedule, reporter, position)
    trainer = _MeteredTrainer(
        job, prepared, bookkeeping, model=prepared.model, args=_arguments(job, prepared.schedule, precision, device)
    )
    num_parameters, num_trainable = count_parameters(prepared.model)
    progress = Progress(
        device=device.type,
        precision=precision,
        num_parameters=num_parameters,
        num_trainable_parameters=num_trainable,
        step=position.step,
        first_step=position.step,
        epoch=bookkeeping.find_epoch(position.step),
        num_steps=prepared.schedule.num_steps,
        num_epochs=prepared.schedule.num_epochs if prepared.stream is None else 0,
    )
    reporter.begin(progress, None if job.checkpoint is None else job.checkpoint / SPOOL)
    if not bookkeeping.best.should_stop(job.train):
        trainer.train(resume_from_checkpoint=None if job.checkpoint is None else str(job.checkpoint))
    prepared.close()
    kept_step = bookkeeping.best.step_to_keep(job.train)
    if kept_step is not None:
        trainer.load_kept(kept_step)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return Trained(model, bookkeeping.seconds, bookkeeping.best)


def _arguments(job: Job, schedule: Schedule, precision: Precision, device: torch.device) -> TrainingArguments:
    config = job.train
    return TrainingArguments(
        output_dir=str(job.work / TRAINER_FOLDER),
        max_steps=schedule.num_steps,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=schedule.num_warmup_steps,
        lr_scheduler_type="constant_with_warmup"
        if config.lr_scheduler_type == "constant"
        else config.lr_scheduler_type,
        max_grad_norm=config.max_grad_norm,
        bf16=precision == "bf16",
        seed=config.seed,
        use_cpu=device.type == "cpu",
        eval_strategy="epoch",
        save_strategy="no",  # the callback says when
        logging_strategy="no",  # the callback writes the rows
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
    )


class _EpochBatches:
    """The schedule's micro-batches as a batch sampler, the same from the same epoch wherever it is entered."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._epoch = 0
        self.batch_size = schedule.config.per_device_train_batch_size
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._schedule.num_micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self._schedule.micro_batches(self._epoch):
            yield rows.tolist()


class _StreamedBatches(IterableDataset[Batch | None]):
    """The micro-batches of a stream, as many an iteration as lead to a validation."""

    def __init__(self, prepared: Prepared, first_step: int) -> None:
        self._prepared = prepared
        self._num_begun = first_step
        self.step: Step | None = None

    def __len__(self) -> int:
        schedule = self._prepared.schedule
        return schedule.steps_per_epoch * schedule.config.gradient_accumulation_steps

    def __iter__(self) -> Iterator[Batch | None]:
        schedule = self._prepared.schedule
        epoch, num_done = divmod(self._num_begun, schedule.steps_per_epoch)
        # The Trainer skips what it has trained on before it was stopped; the stream is already behind it.
        yield from [None] * (num_done * schedule.config.gradient_accumulation_steps)
        for step in self._prepared.steps(epoch, self._num_begun):
            self._num_begun += 1
            self.step = step
            yield from step.batches


class _Bookkeeping(TrainerCallback):
    """Decides when a row is written, a checkpoint saved and training stopped."""

    def __init__(self, job: Job, schedule: Schedule, reporter: Reporter, position: Position) -> None:
        self.job, self.schedule, self.reporter = job, schedule, reporter
        self.checkpoints = Checkpoints(job.work)
        self.meter = LossMeter()
        self.num_validated_epochs, self.best = position.num_validated_epochs, position.best
        self.seconds_before = position.seconds
        self.losses: list[torch.Tensor] = []
        self.grad_norm = torch.zeros(())
        self.num_examples = 0
        self.learning_rate = 0.0
        self.first_step, self.place = position.step, position.stream
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
        loss = torch.stack(self.losses).sum()
        self.meter.add(MeteredStep(step, loss, self.grad_norm, self.learning_rate, self.num_examples))
        self.reporter.advance(step, self.find_epoch(step), self.num_examples)
        self.losses, self.num_examples = [], 0
        if self.schedule.is_logging_step(step):
            self.reporter.log(step_row(step, self.find_epoch(step), self.meter.take_row()))
        # At an epoch's last step the checkpoint waits for the validation: the Trainer would not validate it later.
        is_inside_epoch = step % self.schedule.steps_per_epoch != 0 and step != self.schedule.num_steps
        control.should_save = is_inside_epoch and (self.reporter.should_stop or self.schedule.is_save_step(step))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save after the validation, but not after the last step: the Trainer would take one more from there."""
        control.should_save = state.global_step != self.schedule.num_steps

    def end_validation(self, step: int, validation_loss: float) -> None:
        """Write an epoch's row."""
        self.reporter.log(epoch_row(step, self.find_epoch(step), self.meter.take_epoch(), validation_loss))
        self.num_validated_epochs += 1
        self.best = self.best.after(step, validation_loss)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the folder that the Trainer has just written, and stop if asked to."""
        self.reporter.enter("saving")
        position = Position(
            step=state.global_step,
            num_validated_epochs=self.num_validated_epochs,
            seconds=self.seconds,
            meter=self.meter.state(),
            stream=self.place,
            best=self.best,
            kept_step=self.best.step_to_keep(self.job.train),
        )
        written = self.job.work / TRAINER_FOLDER / f"checkpoint-{state.global_step}"
        with self.checkpoints.write(position, self.job.spool, engine_folder=written):
            pass
        self.reporter.enter("training")
        if self.reporter.should_stop:
            raise Preempted(f"stopped after step {state.global_step}")


class _MeteredTrainer(Trainer):
    """The Trainer on our batches, telling the bookkeeping of each loss."""

    def __init__(self, job: Job, prepared: Prepared, bookkeeping: _Bookkeeping, **options: Any) -> None:
        super().__init__(
            **options,
            train_dataset=prepared.train,
            eval_dataset=prepared.validation,
            data_collator=prepared.collate,
            callbacks=[bookkeeping],
        )
        self._prepared = prepared
        self._bookkeeping = bookkeeping
        self._streamed = None if prepared.stream is None else _StreamedBatches(prepared, bookkeeping.first_step)
        self.loss_is_scaled_for_ga = True

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer, as the other engine has it."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model, self._prepared.schedule.config)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The schedule's batches, or those of the stream."""
        if self._streamed is not None:
            # Not prepared by accelerate, which would read ahead: the place would be that of a later batch.
            return DataLoader(self._streamed, batch_size=None, pin_memory=self.args.dataloader_pin_memory)
        loader = DataLoader(
            self._prepared.train,
            batch_sampler=_EpochBatches(self._prepared.schedule),
            collate_fn=self._prepared.collate,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The micro-batches of a step, and what their targets weigh together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._streamed is not None and self._streamed.step is not None:
            self._bookkeeping.place = self._streamed.step.place
        return batches, torch.stack([self._prepared.loss.weigh(batch) for batch in batches]).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share in the mean over the step's targets.

        The Trainer's own loss of a classification model is too large by the factor gradient_accumulation_steps, and so
        is its gradient: the model takes `num_items_in_batch`, and ignores it.
        """
        loss = self._prepared.loss
        return loss.compute(model, inputs) * (loss.weigh(inputs) / num_items_in_batch)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch, forward and backward."""
        num_examples = len(inputs["labels"])
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._bookkeeping.losses.append(loss)
        self._bookkeeping.num_examples += num_examples
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The loss on the validation split."""
        loss = compute_validation_loss(
            self.model, self._prepared, self.args.device, self._bookkeeping.reporter, may_stop=False
        )
        self._bookkeeping.end_validation(self.state.global_step, loss)
        self.control.should_training_stop |= self._bookkeeping.best.should_stop(self._prepared.schedule.config)
        return {}

    def load_kept(self, step: int) -> None:
        """Go to the model of a step, unless that is where training ended: then nothing was saved."""
        if step != self.state.global_step:
            self._load_from_checkpoint(str(self._bookkeeping.checkpoints.find_step(step)))

    def _clip_grad_norm(self, model: Any) -> Any:
        self._bookkeeping.grad_norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # transformers' own
        return self._bookkeeping.grad_norm
