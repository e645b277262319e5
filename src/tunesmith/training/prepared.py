"""What both engines start from: the model, the features, and the schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from tunesmith.features.batching import make_collator, read_features
from tunesmith.kinds import find_kind
from tunesmith.kinds.protocol import WINDOW
from tunesmith.modeling.dropout import use_fast_dropout
from tunesmith.modeling.load import build_model
from tunesmith.training.job import Job
from tunesmith.training.loss import Loss, find_class_weights
from tunesmith.training.schedule import Schedule

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from tunesmith.features.batching import Collator

Batch = Mapping[str, torch.Tensor]


class Step(NamedTuple):
    """What a step trains on.

    Attributes:
        batches: Its micro-batches.
        num_examples: Examples of all of them.
        epoch: How many epochs are done behind it.
        place: Where a stream stands behind it.
    """

    batches: Sequence[Batch]
    num_examples: int
    epoch: float
    place: dict[str, Any] | None = None


class StreamedBatch(NamedTuple):
    """A micro-batch of a stream.

    Attributes:
        features: Its examples, without their origins.
        place: Where the stream stands behind it, as JSON values.
        epoch: How many epochs of the stream are done behind it.
    """

    features: pa.Table
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
    """A model, and the features to train and validate it on; or a stream to train it on."""

    model: Any
    train: datasets.Dataset
    validation: datasets.Dataset
    collate: Collator
    schedule: Schedule
    loss: Loss
    stream: BatchStream | None = None

    def steps(self, epoch: int, first_step: int) -> Iterator[Step]:
        """The steps of an epoch, from a step of the whole training on; those of a stream come one after the other.

        Args:
            epoch: From 0; of a stream, which validation they lead to.
            first_step: How many steps are already done, over all epochs.
        """
        if self.stream is None:
            for step, micro_batches in enumerate(self.schedule.steps(epoch, first_step), start=first_step + 1):
                batches = [self.train_batch(rows) for rows in micro_batches]
                num_examples = sum(len(rows) for rows in micro_batches)
                yield Step(batches, num_examples, step / self.schedule.steps_per_epoch)
            return
        for _ in range(first_step, self.schedule.last_step(epoch)):
            found = [next(self.stream) for _ in range(self.schedule.config.gradient_accumulation_steps)]
            num_examples = sum(batch.features.num_rows for batch in found)
            batches = [self.collate(batch.features.to_pylist()) for batch in found]
            yield Step(batches, num_examples, found[-1].epoch, found[-1].place)

    def resume(self, place: Mapping[str, Any] | None) -> None:
        """Go to where a stream stood; None where nothing is streamed."""
        if self.stream is not None and place is not None:
            self.stream.resume(place)

    def close(self) -> None:
        """The last step was taken."""
        if self.stream is not None:
            self.stream.close()

    def train_batch(self, rows: np.ndarray[Any, Any]) -> Batch:
        """The training examples with these row numbers, padded to the longest."""
        return self.collate(_rows(self.train, rows))

    def validation_batches(self) -> Sequence[np.ndarray[Any, Any]]:
        """The row numbers of the validation batches, examples of like length together."""
        order = np.argsort(-find_lengths(self.validation), kind="stable")
        size = self.schedule.config.per_device_train_batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def validation_batch(self, rows: np.ndarray[Any, Any]) -> Batch:
        """The validation examples with these row numbers, padded to the longest."""
        return self.collate(_rows(self.validation, rows))


def prepare(job: Job) -> Prepared:
    """Build the model and open the features.

    Raises:
        ModelError: The base model cannot be trained for this kind of task.
    """
    train, validation = (_without_origins(read_features(job.features, split)) for split in ("train", "validation"))
    model = build_model(job.base, job.examples, job.labels, job.lora, job.train.seed)
    if torch.accelerator.current_accelerator(check_available=True) is None:
        use_fast_dropout(model)
    return Prepared(
        model=model,
        train=train,
        validation=validation,
        collate=make_collator(find_kind(job.examples), job.pad_token_id),
        schedule=Schedule(job.train, find_lengths(train)),
        loss=Loss(job.train, _find_class_weights(job, train)),
        stream=_open_stream(job),
    )


def _find_class_weights(job: Job, train: datasets.Dataset) -> torch.Tensor | None:
    if job.train.class_weights is None:
        return None
    return find_class_weights(job.train.class_weights, job.labels, train.data.column("labels").to_numpy())


def _open_stream(job: Job) -> BatchStream | None:
    if job.stream is None:
        return None
    # By name: what streams is no part of the code identity of a training on features.
    stream: BatchStream = import_module("tunesmith.training.streaming").open_stream(job)
    return stream


def find_lengths(features: datasets.Dataset) -> np.ndarray[Any, Any]:
    """Tokens of each example, shape (num_examples,)."""
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(features.data.column("input_ids")).to_numpy())


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _rows(features: datasets.Dataset, rows: np.ndarray[Any, Any]) -> Sequence[Mapping[str, Any]]:
    columns = features[rows.tolist()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _without_origins(features: datasets.Dataset) -> datasets.Dataset:
    """What a model is trained on, without the columns that say where it is from."""
    return features.remove_columns([name for name in ("row_id", WINDOW) if name in features.column_names])
