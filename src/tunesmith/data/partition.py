"""Assigns rows to splits by the hash of their input columns.

A row's split depends on its own inputs alone: other rows that come, go or change places never move it, a corrected
label does not move it, and rows with equal inputs stay together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.rows import hash_rows, identify_rows

ROW_ID = "row_id"
"""The column that names each row."""


BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


def assign_splits(
    table: pa.Table, columns: Sequence[str], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, BoolArray]:
    """Which rows belong to each split: every row to exactly one.

    Args:
        table: A table of canonical types.
        columns: The input columns, whose values decide.
        validation_fraction: Expected share of the validation split, in (0, 1).
        test_fraction: Expected share of the test split, in (0, 1); a row in test stays there whatever the other is.
        seed: Another seed is another split.

    Returns:
        By split, a mask of shape (num_rows,).
    """
    hashes = hash_rows(table, columns, purpose="tunesmith split", seed=seed)
    position = np.frombuffer(b"".join(hashes), dtype=">u8").astype(np.float64) / 2**64
    is_test = position < test_fraction
    is_validation = ~is_test & (position < test_fraction + validation_fraction)
    return {"train": ~is_test & ~is_validation, "validation": is_validation, "test": is_test}


def partition(table: pa.Table, splits: Mapping[str, BoolArray]) -> dict[str, pa.Table]:
    """The rows of each split, in the order of `table`, with a leading column `row_id`."""
    named = table.add_column(0, ROW_ID, pa.array(identify_rows(table), pa.string()))
    return {name: named.filter(pa.array(mask)) for name, mask in splits.items()}
