"""Some examples in columns, as batches are made of them: arrays, and no list of numbers for each example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ragged:
    """A column with a list of numbers for each example.

    Attributes:
        values: The numbers of all examples one after another, shape (num_values,).
        lengths: How many each example has, shape (num_examples,).
    """

    values: IntArray
    lengths: IntArray

    def pad(self, padding: int) -> IntArray:
        """The lists as rows, filled up with `padding` on the right; int64, shape (num_examples, longest)."""
        filled = np.full((len(self.lengths), int(self.lengths.max())), padding, np.int64)
        filled[self.mask()] = self.values
        return filled

    def mask(self) -> IntArray:
        """Where a padded row has a number of its own; bool, shape (num_examples, longest)."""
        found: IntArray = np.arange(self.lengths.max()) < self.lengths[:, None]
        return found

    def split(self) -> list[IntArray]:
        """The list of each example."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1])


@dataclass(frozen=True)
class FeatureRows:
    """The features of some examples.

    Attributes:
        tokens: The columns with a number a token, by name.
        numbers: The columns with a number an example, by name; each of shape (num_examples,).
    """

    tokens: Mapping[str, Ragged]
    numbers: Mapping[str, IntArray]

    def __len__(self) -> int:
        return len(self.tokens["input_ids"].lengths)
