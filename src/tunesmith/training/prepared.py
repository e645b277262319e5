"""What both engines start from: the model, the features, and the schedule."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunesmith.features.batching import make_collator, read_features
from tunesmith.kinds import find_kind
from tunesmith.kinds.protocol import WINDOW
from tunesmith.modeling.load import build_model
from tunesmith.training.job import Job
from tunesmith.training.schedule import Schedule

if TYPE_CHECKING:
    import datasets

    from tunesmith.features.batching import Collator

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Prepared:
    """A model, and the features to train and validate it on."""

    model: Any
    train: datasets.Dataset
    validation: datasets.Dataset
    collate: Collator
    schedule: Schedule

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
    return Prepared(
        model=model,
        train=train,
        validation=validation,
        collate=make_collator(find_kind(job.examples), job.pad_token_id),
        schedule=Schedule(job.train, find_lengths(train)),
    )


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
