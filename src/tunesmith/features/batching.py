"""Which examples a batch holds, and how their features become tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.kinds.ragged import FeatureRows, IntArray, Ragged

if TYPE_CHECKING:
    import torch

    from tunesmith.kinds import Kind

    Collator = Callable[[FeatureRows], dict[str, torch.Tensor]]

CHUNK_BATCHES = 50
"""Batches that are sorted by length together: enough for little padding, few enough for every epoch to differ."""


def plan_batches(lengths: IntArray, batch_size: int, *, group_by_length: bool, seed: int, epoch: int) -> list[IntArray]:
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


def plan_even_batches(
    lengths: IntArray, batch_size: int, *, group_by_length: bool, seed: int, group: int
) -> list[IntArray]:
    """Put every example of a group of a stream in one batch; as `plan_batches`, but none has much fewer than another.

    There are many groups, and each would have a last batch of its own, that takes a step as large as any other's.

    Args:
        lengths: Tokens of each example, shape (num_examples,), at least one.
        batch_size: Most examples in a batch.
        group_by_length: Whether examples of like length share a batch.
        seed: The recipe's seed.
        group: The number of the group, from 0.

    Returns:
        The row numbers of each batch; together a permutation of all rows.
    """
    random = np.random.default_rng([seed, group])
    order = random.permutation(len(lengths))
    num_batches = -(-len(lengths) // batch_size)
    if not group_by_length:
        return np.array_split(order, num_batches)
    batches = np.array_split(_by_length(order, lengths), num_batches)
    return [batches[number] for number in random.permutation(num_batches)]


class Features:
    """The features of a split, of which only what a batch needs is read from the disk.

    Args:
        table: Columns input_ids and what else the kind needs; other columns, such as `row_id`, are left alone.
    """

    def __init__(self, table: pa.Table) -> None:
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._tokens = [field.name for field in table.schema if pa.types.is_list(field.type)]
        self._numbers = {
            field.name: np.asarray(table[field.name].to_numpy())
            for field in table.schema
            if pa.types.is_integer(field.type)
        }
        self._views: dict[int, dict[str, tuple[IntArray, IntArray]]] = {}
        self.lengths: IntArray = np.asarray(pc.list_value_length(table["input_ids"]).to_numpy())
        """Tokens of each example, shape (num_examples,)."""

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: IntArray) -> FeatureRows:
        """The examples with these numbers, in this order."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        places = [*zip(chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True)]
        lengths = self.lengths[rows]
        tokens = {}
        for name in self._tokens:
            parts = []
            for chunk, row in places:
                values, offsets = self._view(chunk)[name]
                parts.append(values[offsets[row] : offsets[row + 1]])
            tokens[name] = Ragged(np.concatenate(parts), lengths)
        return FeatureRows(tokens, {name: numbers[rows] for name, numbers in self._numbers.items()})

    def column(self, name: str) -> IntArray:
        """A column with a number an example, shape (num_examples,)."""
        return self._numbers[name]

    def find_tokens(self, vocabulary_size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which tokens occur, shape (vocabulary_size,)."""
        occurs = np.zeros(vocabulary_size, np.bool_)
        for chunk in range(len(self._batches)):
            occurs[self._view(chunk)["input_ids"][0]] = True
        return occurs

    def _view(self, chunk: int) -> dict[str, tuple[IntArray, IntArray]]:
        """The values of the columns of lists in a record batch, and where each example begins in them; no copies."""
        if chunk not in self._views:
            lists = {name: self._batches[chunk].column(name) for name in self._tokens}
            self._views[chunk] = {
                name: (column.values.to_numpy(), column.offsets.to_numpy()) for name, column in lists.items()
            }
        return self._views[chunk]


def make_collator(kind: Kind, pad_token_id: int) -> Collator:
    """A function from the features of some examples to a batch of tensors, padded to the longest example."""
    import torch

    def collate(rows: FeatureRows) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(values) for name, values in kind.collate(rows, pad_token_id).items()}

    return collate


def _by_length(rows: IntArray, lengths: IntArray) -> IntArray:
    # Longest first, and stable: equal lengths stay in the shuffled order.
    ordered: IntArray = rows[np.argsort(-lengths[rows].astype(np.int64), kind="stable")]
    return ordered


def _cut(rows: IntArray, size: int) -> list[IntArray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
