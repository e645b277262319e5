"""Where each row came from: so that every message can name the file and the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

IntArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Origins:
    """Where each row of a table came from; 12 bytes a row.

    Attributes:
        prefixes: How each file is named in front of a number, such as `reviews.csv:` or `reviews.parquet row `.
        files: Index into `prefixes` of each row, shape (num_rows,), int32.
        numbers: Line or row number in its file of each row, from 1, shape (num_rows,), int64.
        places: Which row each was made of among those that a stage began with, shape (num_rows,); None where nobody
            asks.
    """

    prefixes: tuple[str, ...]
    files: IntArray
    numbers: IntArray
    places: IntArray | None = None

    def __call__(self, row: int) -> str:
        """Where row `row` came from, such as `reviews.csv:17`."""
        return f"{self.prefixes[self.files[row]]}{self.numbers[row]}"

    def take(self, rows: IntArray) -> Origins:
        """The origins of some rows, in the order of `rows`."""
        places = None if self.places is None else self.places[rows]
        return Origins(self.prefixes, self.files[rows], self.numbers[rows], places)


class Rows(NamedTuple):
    """A table, and where each of its rows came from."""

    table: pa.Table
    origins: Origins

    def take(self, rows: IntArray) -> Rows:
        """Some of the rows, in the order of `rows`."""
        return Rows(self.table.take(pa.array(rows)), self.origins.take(rows))
