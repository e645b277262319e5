"""Which rows train, validate and test: decided so that a row that was put somewhere stays there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.parts import SOURCE
from tunesmith.data.rows import FloatArray, HashArray, IntArray, as_fractions, number_equals
from tunesmith.errors import DataError

ROW_ID = "row_id"
"""The column that names each row."""

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)

GOLDEN_RATIO = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, are spread more evenly than those of any other number, however many are taken."""

PURPOSE, HASH_BYTES = "tunesmith split", 8
"""How `hash_rows` draws a row's split. Never changed: rows would change sides."""

CodeArray = np.ndarray[Any, np.dtype[np.int8]]
"""An index into SPLITS for each row."""


def cut_fractions(fractions: FloatArray, validation_fraction: float, test_fraction: float) -> CodeArray:
    """Splits from numbers in [0, 1): a row in test stays there whatever the validation fraction is."""
    codes = np.full(len(fractions), TRAIN, dtype=np.int8)
    codes[fractions < test_fraction + validation_fraction] = VALIDATION
    codes[fractions < test_fraction] = TEST
    return codes


def spread_evenly(inputs: HashArray, strata: HashArray) -> FloatArray:
    """Numbers in [0, 1) that are spread evenly over the rows of each stratum, in their order; equal inputs have one.

    Of any k rows in a row of one stratum, a share f has numbers below f, give or take about one row. What is appended
    changes no earlier number; what is deleted or moved changes those of the rows behind it.

    Args:
        inputs: A hash of each row's inputs.
        strata: A hash of each row's stratum, seeded.

    Source: the additive recurrence of the golden ratio, the one-dimensional sequence of lowest discrepancy.
    """
    _, first, inverse = np.unique(inputs[:, 0].astype(np.uint64), return_index=True, return_inverse=True)
    leaders = np.sort(first)
    numbers = number_equals(strata[leaders])
    fractions = (as_fractions(strata[leaders]) + numbers * GOLDEN_RATIO) % 1.0
    by_row = np.empty(len(inputs))
    by_row[leaders] = fractions
    spread: FloatArray = by_row[first[inverse]]
    return spread


def cut_order(values: pa.ChunkedArray, validation_from: Any, test_from: Any) -> CodeArray:
    """Splits by order: what is not before `test_from` tests, what is not before `validation_from` validates."""
    codes = np.full(len(values), TRAIN, dtype=np.int8)
    codes[pc.greater_equal(values, validation_from).to_numpy()] = VALIDATION
    codes[pc.greater_equal(values, test_from).to_numpy()] = TEST
    return codes


def match_values(values: pa.ChunkedArray, wanted: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values are among some, as text."""
    found: np.ndarray[Any, np.dtype[np.bool_]] = pc.is_in(
        values.cast(pa.string()), value_set=pa.array(wanted, pa.string())
    ).to_numpy()
    return found


def repeat_rows(places: IntArray, weights: FloatArray, hashes: HashArray) -> IntArray:
    """Rows as often as their weight says: the whole part of it, and once more for the rest's share of the rows.

    Args:
        places: The rows.
        weights: The weight of each, at least 0.
        hashes: A hash of each, which decides who is in the share.
    """
    whole = np.floor(weights)
    times = whole + (as_fractions(hashes) < weights - whole)
    return np.repeat(places, times.astype(np.int64))


def find_weights(table: pa.Table, weights: Mapping[str, float]) -> FloatArray:
    """The weight of each row, by the name of its source.

    Raises:
        DataError: Transforms have dropped or changed the column with the names.
    """
    advice = "Keep it as it is in data.transforms, or remove the weights of data.sources."
    if SOURCE not in table.column_names:
        raise DataError(f"the sources have weights, but transforms have dropped the column {SOURCE!r}. {advice}")
    names = table[SOURCE].to_pylist()
    unknown = [name for name in names if name not in weights]
    if unknown:
        raise DataError(f"the sources have weights, but column {SOURCE!r} has {unknown[0]!r}, which is none. {advice}")
    return np.array([weights[name] for name in names], dtype=np.float64)


def tell_apart(hashes: HashArray, numbers: IntArray) -> HashArray:
    """Hashes that differ between equal rows, too.

    Args:
        hashes: A hash of each row.
        numbers: How many equal ones come before each.
    """
    if not numbers.any():
        return hashes
    told_apart = hashes.astype(np.uint64)
    told_apart[:, 1] += numbers.astype(np.uint64)
    return told_apart.astype(">u8")


def name_rows(hashes: HashArray, numbers: IntArray) -> pa.Array:
    """A name for each row: 16 hex digits of its hash; the second of equal rows ends in `-2`.

    Args:
        hashes: A hash of each row.
        numbers: How many equal ones come before each.
    """
    digits = hashes[:, 0].astype(">u8").tobytes().hex()
    names = [digits[start : start + 16] for start in range(0, len(digits), 16)]
    for row in np.flatnonzero(numbers):
        names[row] += f"-{numbers[row] + 1}"
    return pa.array(names, pa.string())
