"""The engine `trainer`: transformers' Trainer, with our batches, our rows and our sealed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, IterableDataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tunesmith.modeling.caching import without_cache
from tunesmith.training.bookkeeping import TRAINER_FOLDER, Bookkeeping
from tunesmith.training.callbacks import LOGGED_AS, open_callbacks
from tunesmith.training.checkpoints import SPOOL, Position, read_position
from tunesmith.training.gradient import GradientSum, find_limit
from tunesmith.training.job import Job
from tunesmith.training.optimizer import build_optimizer
from tunesmith.training.precision import Precision, choose_precision
from tunesmith.training.prepared import Prepared, Step, prepare
from tunesmith.training.processes import find_rank, find_seed, wait_for_all
from tunesmith.training.reporter import Progress, Reporter
from tunesmith.training.schedule import Schedule
from tunesmith.training.shards import put_together
from tunesmith.training.spool import Row
from tunesmith.training.state import load_optimizer, load_weights, save_state
from tunesmith.training.trained import Trained, find_whole_model
from tunesmith.training.validation import compute_validation_loss


def run(job: Job, reporter: Reporter) -> Trained:
    """Train from the start or from the job's checkpoint, to the last step.

    Raises:
        Preempted: The reporter asked to stop; a checkpoint was written.
        TrainingError: A loss is not finite.
        UserError: The base model or the precision cannot be used, or a callback raised.
    """
    with open_callbacks(job.train.callbacks) as callbacks:
        precision = choose_precision(job.train.precision, _find_device())
        prepared = prepare(job)
        with without_cache(prepared.model):
            return _run(job, prepared, reporter, precision, callbacks)


def _run(
    job: Job, prepared: Prepared, reporter: Reporter, precision: Precision, callbacks: Sequence[TrainerCallback]
) -> Trained:
    device = _find_device()
    position = Position() if job.checkpoint is None else read_position(job.checkpoint)
    prepared.resume(position.stream)
    gradient = GradientSum(
        prepared.loss, device, find_limit(job, position), reporter.limit_micro_batches, is_sharded=job.train.fsdp
    )
    bookkeeping = Bookkeeping(job, prepared.schedule, reporter, position, gradient)
    arguments = _arguments(job, prepared.schedule, precision, device)
    trainer = _MeteredTrainer(prepared, bookkeeping, gradient, callbacks, model=prepared.model, args=arguments)
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
    if not (bookkeeping.has_ended or bookkeeping.best.should_stop(job.train)):
        with bookkeeping.checkpoints:
            trainer.train(resume_from_checkpoint=None if job.checkpoint is None else str(job.checkpoint))
    wait_for_all()  # the first process alone publishes checkpoints
    prepared.close()
    last_step = max(position.step, trainer.state.global_step)
    kept_step = bookkeeping.best.step_to_keep(job.train) or last_step
    trainer.load_kept(kept_step)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return Trained(
        find_whole_model(job, model, prepared.schedule, kept_step),
        seconds=bookkeeping.seconds,
        best=bookkeeping.best,
        padding_fraction=bookkeeping.meter.padding_fraction,
        max_micro_batch_tokens=gradient.max_tokens,
    )


def _find_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


class _MeteredTrainer(Trainer):
    """The Trainer on our batches, telling the bookkeeping of each loss."""

    def __init__(
        self,
        prepared: Prepared,
        bookkeeping: Bookkeeping,
        gradient: GradientSum,
        callbacks: Sequence[TrainerCallback],
        **options: Any,
    ) -> None:
        self._steps = _Steps(prepared, bookkeeping.first_step)
        super().__init__(
            **options,
            train_dataset=self._steps,
            eval_dataset=prepared.validation,
            callbacks=[*callbacks, bookkeeping],
        )
        self.remove_callback(PrinterCallback)
        bookkeeping.tell = self._tell
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
        """The steps; not prepared by accelerate, which would read ahead: a stream's place would be a later step's.

        Each epoch a loader draws a number for its workers, which there are none of; from torch's generator, the dropout
        would be another than in the other engine.
        """
        return DataLoader(self._steps, batch_size=None, collate_fn=lambda step: step, generator=torch.Generator())

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
        metrics = {"eval_loss": loss, "epoch": self.state.epoch or 0.0}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._bookkeeping.end_validation(self.state.global_step, loss, self.control)
        return metrics

    def _tell(self, row: Row) -> None:
        """Tell the callbacks of a row, by the names that the Trainer's own have."""
        logs = {LOGGED_AS[name]: value for name, value in row["metrics"].items()}
        self.callback_handler.on_log(self.args, self.state, self.control, {**logs, "epoch": row["epoch"]})

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
