"""What both engines start from: the model, the features, and the schedule."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from tunesmith.errors import CallError
from tunesmith.features.batching import Features, make_collator
from tunesmith.features.files import read_split
from tunesmith.kinds import find_kind
from tunesmith.kinds.ragged import IntArray
from tunesmith.modeling.base import PACK_MULTIPLE
from tunesmith.modeling.dropout import use_fast_dropout
from tunesmith.modeling.load import build_model, count_parameters
from tunesmith.modeling.quantize import compute_in
from tunesmith.modeling.vocabulary import count_embedded_tokens, count_left_out, narrow_vocabulary
from tunesmith.training.batching import Batching, choose_batching
from tunesmith.training.job import Job
from tunesmith.training.loss import Loss, find_class_weights
from tunesmith.training.precision import allow_tf32, choose_precision
from tunesmith.training.processes import find_seed, share
from tunesmith.training.reading_ahead import read_ahead
from tunesmith.training.schedule import Schedule
from tunesmith.training.shards import shard_model

if TYPE_CHECKING:
    from tunesmith.features.batching import Collator

Batch = Mapping[str, torch.Tensor]


class Step(NamedTuple):
    """What a step trains on.

    Attributes:
        batches: The micro-batches of this process; there may be none.
        num_examples: Examples of all processes.
        num_tokens: Their tokens.
        num_computed_tokens: The same, with the padding that goes through the model's layers.
        epoch: How many epochs are done behind it.
        place: Where a stream stands behind it.
        stand_in: What a process goes through the model with, where others have more to do and it must keep up; it
            counts nothing.
    """

    batches: Sequence[Batch]
    num_examples: int
    num_tokens: int
    num_computed_tokens: int
    epoch: float
    place: dict[str, Any] | None = None
    stand_in: Batch | None = None


class StreamedBatch(NamedTuple):
    """A micro-batch of a stream, or of several processes together.

    Attributes:
        features: Where its examples are among others.
        rows: Which of them they are.
        place: Where the stream stands behind it, as JSON values.
        epoch: How many epochs of the stream are done behind it.
    """

    features: Features
    rows: IntArray
    place: dict[str, Any]
    epoch: float


class BatchStream(Protocol):
    """Micro-batches without end."""

    def __next__(self) -> StreamedBatch:
        """The next one."""

    def resume(self, place: Mapping[str, Any]) -> None:
        """Go to where a stream stood."""

    def close(self) -> None:
        """Stop reading ahead."""


@dataclass(frozen=True)
class Prepared:
    """A model, and the features to train and validate it on; or a stream to train it on.

    Attributes:
        num_absent_tokens: How many tokens the model has no embeddings for while it is trained, see `vocabulary`.
    """

    model: Any
    train: Features
    validation: Features
    batching: Batching
    collate: Collator
    schedule: Schedule
    loss: Loss
    stream: BatchStream | None = None
    reads_ahead: bool = False
    num_absent_tokens: int = 0

    def count_parameters(self) -> tuple[int, int]:
        """How many parameters the whole model has, and how many of them are trained."""
        total, trained = count_parameters(self.model)
        return total + count_left_out(self.model), trained

    def steps(self, epoch: int, first_step: int) -> Iterator[Step]:
        """The steps of an epoch, from a step of the whole training on; those of a stream come one after the other.

        Args:
            epoch: From 0; of a stream, which validation they lead to.
            first_step: How many steps are already done, over all epochs.
        """
        steps = self._make_steps(epoch, first_step)
        return read_ahead(map(_pin, steps)) if self.reads_ahead else steps

    def _make_steps(self, epoch: int, first_step: int) -> Iterator[Step]:
        if self.stream is None:
            for step, micro_batches in enumerate(self.schedule.steps(epoch, first_step), start=first_step + 1):
                parts = [(self.train, rows) for rows in micro_batches]
                yield self._make_step(parts, step / self.schedule.steps_per_epoch)
            return
        for _ in range(first_step, self.schedule.last_step(epoch)):
            found = [next(self.stream) for _ in range(self.schedule.config.gradient_accumulation_steps)]
            parts = [(batch.features, rows) for batch in found for rows in self.schedule.divide(batch.rows)]
            yield self._make_step(parts, found[-1].epoch, found[-1].place)

    def resume(self, place: Mapping[str, Any] | None) -> None:
        """Go to where a stream stood; None where nothing is streamed."""
        if self.stream is not None and place is not None:
            self.stream.resume(place)

    def close(self) -> None:
        """The last step was taken."""
        if self.stream is not None:
            self.stream.close()

    def validation_batches(self) -> Sequence[np.ndarray[Any, Any]]:
        """The row numbers of the validation batches, examples of like length together."""
        order = np.argsort(-self.validation.lengths, kind="stable")
        size = self.schedule.config.per_device_train_batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def validation_batch(self, rows: np.ndarray[Any, Any]) -> Batch:
        """The validation examples with these row numbers, padded to the longest."""
        return self.collate(self.validation.take(rows))

    def _make_step(
        self, parts: Sequence[tuple[Features, IntArray]], epoch: float, place: dict[str, Any] | None = None
    ) -> Step:
        """A step of which `parts` are the micro-batches of all processes."""
        lengths = [features.lengths[rows] for features, rows in parts]
        first, some = parts[0]
        return Step(
            batches=[self._make_batch(features, rows) for features, rows in share(parts)],
            num_examples=sum(len(rows) for _, rows in parts),
            num_tokens=sum(int(tokens.sum()) for tokens in lengths),
            num_computed_tokens=sum(self._count_computed(tokens) for tokens in lengths),
            epoch=epoch,
            place=place,
            stand_in=self.collate(first.take(some[:1])) if self.schedule.config.fsdp else None,
        )

    def _make_batch(self, features: Features, rows: IntArray) -> Batch:
        if self.batching.way == "packed":  # those of like length side by side: see `Layout.parts`
            rows = rows[np.argsort(-features.lengths[rows], kind="stable")]
        return self.collate(features.take(rows))

    def _count_computed(self, lengths: np.ndarray[Any, Any]) -> int:
        if self.batching.way == "packed":
            return -(-int(lengths.sum()) // PACK_MULTIPLE) * PACK_MULTIPLE
        return len(lengths) * int(lengths.max())


def prepare(job: Job) -> Prepared:
    """Build the model and open the features.

    Raises:
        ModelError: The base model cannot be trained for this kind of task, or not packed.
        CallError: There is no compiler.
    """
    train, validation = (Features(read_split(job.features, split)) for split in ("train", "validation"))
    model = build(job)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if device.type == "cpu" and not job.train.compile:
        use_fast_dropout(model)  # a compiler fuses torch's own
    kind = find_kind(job.examples)
    batching = choose_batching(job.train, model, has_padding=kind.CUTS_TEXTS)
    precision = choose_precision(job.train.precision, device)  # behind packing, which compares logits in fp32
    num_absent_tokens = _narrow_vocabulary(job, model, train, validation)  # behind packing, which tries any tokens
    allow_tf32(precision, device)
    if job.quantization is not None:
        compute_in(model, torch.bfloat16 if precision == "bf16" else torch.float32)
    if job.train.compile:
        _compile(model)
    if job.train.fsdp:
        shard_model(model, device)
    return Prepared(
        model=model,
        train=train,
        validation=validation,
        batching=batching,
        collate=make_collator(kind, job.pad_token_id),
        schedule=Schedule(job.train, train.lengths, groups=batching.way == "grouped"),
        loss=Loss(job.train, _find_class_weights(job, train)),
        stream=_open_stream(job, groups=batching.way == "grouped"),
        reads_ahead=device.type == "cuda",
        num_absent_tokens=num_absent_tokens,
    )


def _pin(step: Step) -> Step:
    """A step in memory that a GPU copies from while it computes."""
    batches = [{name: values.pin_memory() for name, values in batch.items()} for batch in step.batches]
    return step._replace(batches=batches)


def build(job: Job) -> Any:
    """The model that a job begins with, whole and on the CPU."""
    return build_model(
        job.base,
        job.examples,
        job.labels,
        job.lora,
        job.train.seed,
        adapter=job.adapter,
        quantization=job.quantization,
    )


def _narrow_vocabulary(job: Job, model: Any, train: Features, validation: Features) -> int:
    """Leave out the embeddings of tokens that never come; gives their number.

    Of a stream, nobody knows which will come. Adafactor looks at a matrix as a whole.
    """
    if job.stream is not None or job.train.fsdp or job.train.optimizer == "adafactor":
        return 0
    size = count_embedded_tokens(model)
    if size == 0:
        return 0
    occurs = train.find_tokens(size) | validation.find_tokens(size)
    occurs[job.pad_token_id] = True
    return narrow_vocabulary(model, torch.from_numpy(occurs))


def _compile(model: Any) -> None:
    """Compile a model when it is first called; torch needs a C++ compiler for the CPU, Triton one of C for GPUs."""
    on_cpu = torch.accelerator.current_accelerator(check_available=True) is None
    variable, *usual = ("CXX", "g++", "clang++") if on_cpu else ("CC", "gcc", "clang")
    compilers = [name for name in (os.environ.get(variable), *usual) if name]
    if not any(shutil.which(name) for name in compilers):
        raise CallError(
            f"train.compile: there is no compiler on this machine (looked for {', '.join(compilers)}), which "
            f"torch.compile needs. Install {usual[0]}, or set train.compile to false."
        )
    model.compile(dynamic=True)


def _find_class_weights(job: Job, train: Features) -> torch.Tensor | None:
    if job.train.class_weights is None:
        return None
    return find_class_weights(
        job.train.class_weights, job.labels, train.column("labels"), may_lack_labels=job.leaves_rows_out
    )


def _open_stream(job: Job, *, groups: bool) -> BatchStream | None:
    if job.stream is None:
        return None
    # By name: what streams is no part of the code identity of a training on features.
    stream: BatchStream = import_module("tunesmith.training.streaming").open_stream(job, groups=groups)
    return stream


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from, in each process with other numbers."""
    seed = find_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
