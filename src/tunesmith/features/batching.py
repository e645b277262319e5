"""Which examples a batch holds, and how their features become tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.features.files import read_split

if TYPE_CHECKING:
    import datasets
    import torch

    from tunesmith.kinds import Kind

    Collator = Callable[[Sequence[Mapping[str, Any]]], dict[str, torch.Tensor]]

CHUNK_BATCHES = 50
"""Batches that are sorted by length together: enough for little padding, few enough for every epoch to differ."""


def plan_batches(
    lengths: np.ndarray[Any, Any], batch_size: int, *, group_by_length: bool, seed: int, epoch: int
) -> list[np.ndarray[Any, Any]]:
    """Put every example in one batch, in an order that only the seed and the epoch decide.

    Args:
        lengths: Tokens of each example, shape (num_examples,).
        batch_size: Examples in a batch; the last may have fewer.
        group_by_length: Whether examples of like length share a batch, which saves padding.
        seed: The recipe's seed.
        epoch: The epoch, from 0.

    Returns:
        The row numbers of each batch; together a permutation of all rows.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if not group_by_length:
        return _cut(order, batch_size)
    chunks = _cut(order, batch_size * CHUNK_BATCHES)
    batches = [batch for chunk in chunks for batch in _cut(_by_length(chunk, lengths), batch_size)]
    return [batches[number] for number in random.permutation(len(batches))]


def read_features(folder: Path, split: str) -> datasets.Dataset:
    """The features of a split, mapped from the disk and not read into memory.

    Args:
        folder: The folder of an encode artifact.
        split: `train`, `validation` or `test`.
    """
    import datasets

    from tunesmith.modeling.quiet import quiet_libraries

    quiet_libraries()
    return datasets.Dataset(read_split(folder, split))


def make_collator(kind: Kind, pad_token_id: int) -> Collator:
    """A function from rows of features to a batch of tensors, padded to the longest row."""
    import torch

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(values) for name, values in kind.collate(rows, pad_token_id).items()}

    return collate


def _by_length(rows: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # Longest first, and stable: equal lengths stay in the shuffled order.
    ordered: np.ndarray[Any, Any] = rows[np.argsort(-lengths[rows].astype(np.int64), kind="stable")]
    return ordered


def _cut(rows: np.ndarray[Any, Any], size: int) -> list[np.ndarray[Any, Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
