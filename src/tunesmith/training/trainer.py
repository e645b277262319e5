"""The engine `trainer`: transformers' Trainer, with our batches, our rows and our sealed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith.errors import Preempted
from tunesmith.training.checkpoints import SPOOL, Checkpoints, Position, read_position
from tunesmith.training.gradient import GradientSum, find_limit
from tunesmith.training.job import Job
from tunesmith.training.meter import LossMeter, metered
from tunesmith.training.optimizer import build_optimizer
from tunesmith.training.precision import Precision, choose_precision
from tunesmith.training.prepared import Prepared, Step, prepare
from tunesmith.training.processes import find_rank, find_seed, is_true_anywhere, wait_for_all
from tunesmith.training.reporter import Progress, Reporter
from tunesmith.training.rows import epoch_row, step_row
from tunesmith.training.schedule import Schedule
from tunesmith.training.shards import put_together
from tunesmith.training.state import load_optimizer, load_weights, save_state
from tunesmith.training.trained import Trained, find_whole_model
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
    gradient = GradientSum(
        prepared.loss, device, find_limit(job, position), reporter.limit_micro_batches, is_sharded=job.train.fsdp
    )
    bookkeeping = _Bookkeeping(job, prepared.schedule, reporter, position, gradient)
    arguments = _arguments(job, prepared.schedule, precision, device)
    trainer = _MeteredTrainer(prepared, bookkeeping, gradient, model=prepared.model, args=arguments)
    num_parameters, num_trainable = prepared.count_parameters()
    progress = Progress(
        device=device.type,
        precision=precision,
        batching=prepared.batching.way,
        why_batching=prepared.batching.why,
        num_parameters=num_parameters,
        num_trainable_parameters=num_trainable,
        num_absent_tokens=prepared.num_absent_tokens,
        step=position.step,
        first_step=position.step,
        epoch=bookkeeping.find_epoch(position.step),
        num_steps=prepared.schedule.num_steps,
        num_epochs=prepared.schedule.num_epochs if prepared.stream is None else 0,
    )
    reporter.begin(progress, None if job.checkpoint is None else job.checkpoint / SPOOL)
    if not bookkeeping.best.should_stop(job.train):
        with bookkeeping.checkpoints:
            trainer.train(resume_from_checkpoint=None if job.checkpoint is None else str(job.checkpoint))
    wait_for_all()  # the first process alone publishes checkpoints
    prepared.close()
    kept_step = bookkeeping.best.step_to_keep(job.train)
    if kept_step is not None:
        trainer.load_kept(kept_step)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return Trained(
        find_whole_model(job, model, prepared.schedule, kept_step or trainer.state.global_step),
        seconds=bookkeeping.seconds,
        best=bookkeeping.best,
        padding_fraction=bookkeeping.meter.padding_fraction,
        max_micro_batch_tokens=gradient.max_tokens,
    )


def _arguments(job: Job, schedule: Schedule, precision: Precision, device: torch.device) -> TrainingArguments:
    config = job.train
    arguments = TrainingArguments(
        output_dir=str(job.work / TRAINER_FOLDER),
        max_steps=schedule.num_steps,
        per_device_train_batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=schedule.num_warmup_steps,
        lr_scheduler_type="constant_with_warmup"
        if config.lr_scheduler_type == "constant"
        else config.lr_scheduler_type,
        max_grad_norm=config.max_grad_norm,
        bf16=precision == "bf16",
        seed=find_seed(config.seed),
        use_cpu=device.type == "cpu",
        eval_strategy="epoch",
        save_strategy="no",  # the callback says when
        logging_strategy="no",  # the callback writes the rows
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # the others belong to other processes, or are not asked for
    return arguments


class _Steps(IterableDataset[Step | None]):
    """The steps of one epoch after the other; to the Trainer, each is a batch."""

    def __init__(self, prepared: Prepared, first_step: int) -> None:
        self._prepared = prepared
        self._num_begun = first_step

    def __len__(self) -> int:
        return self._prepared.schedule.steps_per_epoch

    def __iter__(self) -> Iterator[Step | None]:
        epoch, num_done = divmod(self._num_begun, len(self))
        # The Trainer skips what it has trained on before it was stopped; these steps begin behind that.
        yield from [None] * num_done
        for step in self._prepared.steps(epoch, self._num_begun):
            self._num_begun += 1
            yield step


class _Bookkeeping(TrainerCallback):
    """Decides when a row is written, a checkpoint saved and training stopped."""

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
        assert self.step is not None
        self.place = self.step.place
        self.meter.add(metered(step, self.step, self.loss, self.grad_norm, self.learning_rate))
        self.reporter.advance(step, self.find_epoch(step), self.step.num_examples)
        if self.schedule.is_logging_step(step):
            self.reporter.log(step_row(step, self.find_epoch(step), self.meter.take_row()))
        # At an epoch's last step the checkpoint waits for the validation: the Trainer would not validate it later.
        control.should_save = self._is_asked_to_save(step) and not self.schedule.ends_epoch(step)

    def end_validation(self, step: int, validation_loss: float, control: TrainerControl) -> None:
        """Write an epoch's row; save where it is due, but not after the last step: the Trainer would take one more."""
        self.reporter.log(epoch_row(step, self.find_epoch(step), self.meter.take_epoch(), validation_loss))
        self.num_validated_epochs += 1
        self.best = self.best.after(step, validation_loss)
        control.should_training_stop |= self.best.should_stop(self.schedule.config)
        is_due = self._is_asked_to_save(step) or self.best.needs_checkpoint(step, self.schedule)
        control.should_save = is_due and step != self.schedule.num_steps

    def _is_asked_to_save(self, step: int) -> bool:
        return is_true_anywhere(self.reporter.should_stop) or self.schedule.is_save_step(step)

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
            max_micro_batch_tokens=self.gradient.agree_on_limit(),
            kept_step=self.best.step_to_keep(self.job.train),
        )
        wait_for_all()  # each has written the state of its random numbers
        if find_rank() == 0:
            written = self.job.work / TRAINER_FOLDER / f"checkpoint-{state.global_step}"
            self.checkpoints.publish(written, position, self.job.spool, self.job.quarantine)
        self.reporter.enter("training")
        if is_true_anywhere(self.reporter.should_stop):
            raise Preempted(f"stopped after step {state.global_step}")


class _MeteredTrainer(Trainer):
    """The Trainer on our batches, telling the bookkeeping of each loss."""

    def __init__(self, prepared: Prepared, bookkeeping: _Bookkeeping, gradient: GradientSum, **options: Any) -> None:
        self._steps = _Steps(prepared, bookkeeping.first_step)
        super().__init__(
            **options,
            train_dataset=self._steps,
            eval_dataset=prepared.validation,
            callbacks=[bookkeeping],
        )
        self._prepared = prepared
        self._bookkeeping, self._gradient = bookkeeping, gradient
        # Not as for training: with several processes it would be wrapped in DDP, see `add_up_gradients`.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer, as the other engine has it."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model, self._prepared.schedule.config)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps; not prepared by accelerate, which would read ahead: a stream's place would be a later step's."""
        return DataLoader(self._steps, batch_size=None, collate_fn=lambda step: step)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A step's micro-batches, forward and backward.

        The Trainer's own loss of a classification model is too large by the factor gradient_accumulation_steps, and so
        is its gradient.
        """
        model.train()
        self._bookkeeping.step = inputs
        self._bookkeeping.loss = self._gradient.add(model, inputs)
        return self._bookkeeping.loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The loss on the validation split."""
        loss = compute_validation_loss(
            self.model, self._prepared, self._gradient, self._bookkeeping.reporter, may_stop=False
        )
        self._bookkeeping.end_validation(self.state.global_step, loss, self.control)
        return {}

    def load_kept(self, step: int) -> None:
        """Go to the model of a step, unless that is where training ended: then nothing was saved."""
        if step != self.state.global_step:
            load_weights(self._bookkeeping.checkpoints.find_step(step), self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing: the weights are saved beside the optimizer, as the other engine does."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if find_rank() == 0:
            self._bookkeeping.checkpoints.make_room()
        save_state(folder, self.model, *self._optimization())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_optimizer(Path(checkpoint), self.model, *self._optimization())

    def _optimization(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        return self.optimizer, self.lr_scheduler

    def _clip_grad_norm(self, model: Any) -> Any:
        grad_norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # transformers' own
        self._bookkeeping.grad_norm = put_together(grad_norm)
        return self._bookkeeping.grad_norm
