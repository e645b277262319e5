"""The `function` transform: a user's function called with every row, or with many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.columns import from_values, shorten, to_values
from tunesmith.data.functions import FunctionOptions, LoadedFunction, open_function
from tunesmith.data.origins import IntArray, Rows
from tunesmith.errors import DataError

Row = dict[str, Any]

INPUT_ROW = "_row"
"""What a batched function that returns more or fewer rows adds: the index in the batch of the row that each is of."""

DEFAULT_BATCH_SIZE = 1000

NO_ROWS = np.zeros(0, dtype=np.int64)


def call_function(rows: Rows, options: FunctionOptions) -> tuple[Rows, Mapping[str, int]]:
    """Call a function with all rows.

    Returns:
        The rows that it returned, and how many it dropped, if any. A column that is missing in some rows is null there;
        where no row is left, no column is known.

    Raises:
        DataError: There is no such function, it raised, or it returned something else; names the row.
    """
    call = _call_batches if options.batched else _call_rows
    with open_function(options) as function:
        columns, kept = call(rows, options, function)
    num_dropped = rows.table.num_rows - len(np.unique(kept))
    dropped = {f"function {options.path}": num_dropped} if num_dropped else {}
    table = pa.table({name: from_values(values) for name, values in columns.items()})
    return Rows(table, rows.origins.take(kept)), dropped


def _call_rows(rows: Rows, options: FunctionOptions, function: LoadedFunction) -> tuple[dict[str, list[Any]], IntArray]:
    columns = {name: to_values(rows.table[name]) for name in rows.table.column_names}
    returned: list[Row] = []
    kept: list[int] = []
    place = _Place(rows, options)
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        row = _call(function, dict(zip(columns, values, strict=True)), place, index, index)
        if row is not None:
            _check_row(row, place, index)
            returned.append(row)
            kept.append(index)
    names = dict.fromkeys(name for row in returned for name in row)
    return {name: [row.get(name) for row in returned] for name in names}, np.array(kept, dtype=np.int64)


def _call_batches(
    rows: Rows, options: FunctionOptions, function: LoadedFunction
) -> tuple[dict[str, list[Any]], IntArray]:
    _check_free(rows, options)
    size = options.batch_size or DEFAULT_BATCH_SIZE
    returned: list[dict[str, list[Any]]] = []
    kept: list[IntArray] = []
    place = _Place(rows, options)
    for start in range(0, rows.table.num_rows, size):
        batch = rows.table.slice(start, size)
        last = start + batch.num_rows - 1
        given = {name: to_values(batch[name]) for name in batch.column_names}
        result = _call(function, given, place, start, last)
        indices = _check_batch(result, batch.num_rows, place(start, last))
        if len(indices):
            returned.append({name: values for name, values in result.items() if name != INPUT_ROW})
            kept.append(indices + start)
    return _join_batches(returned, [len(indices) for indices in kept]), np.concatenate([NO_ROWS, *kept])


@dataclass(frozen=True)
class _Place:
    """Names the rows that a function was called with, where that is needed: to do it for each would cost too much."""

    rows: Rows
    options: FunctionOptions

    def __call__(self, first: int, last: int) -> str:
        end = f" to {self.rows.origins(last)}" if last > first else ""
        return f"{self.rows.origins(first)}{end}: function {self.options.path}"


def _call(function: LoadedFunction, given: dict[str, Any], place: _Place, first: int, last: int) -> Any:
    try:
        return function.call(given)
    except Exception as error:  # the user's own code may raise anything; the row belongs into the message
        what = function.source.describe(error)
        raise DataError(f"{place(first, last)} raised {what}. Correct the function or the row.") from error


def _check_row(row: object, place: _Place, index: int) -> None:
    if not isinstance(row, dict) or not row or not all(isinstance(name, str) for name in row):
        raise DataError(
            f"{place(index, index)} returned {shorten(row)}. It must return a dict with the columns' names as keys, or "
            "None to drop the row."
        )


def _join_batches(batches: Sequence[Mapping[str, list[Any]]], num_rows: Sequence[int]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for batch in batches for name in batch}
    for batch, number in zip(batches, num_rows, strict=True):
        for name, values in columns.items():
            values += batch.get(name, [None] * number)
    return columns


def _check_free(rows: Rows, options: FunctionOptions) -> None:
    if INPUT_ROW in rows.table.column_names:
        raise DataError(
            f"function {options.path}: a batched function cannot get a column {INPUT_ROW!r}, which says what the rows "
            "that it returns are made of. Rename the column before."
        )


def _check_batch(result: object, num_rows: int, place: str) -> IntArray:
    """Which row of the batch each returned row is of."""
    if not isinstance(result, dict) or not result.keys() - {INPUT_ROW} or not _holds_lists(result):
        raise DataError(
            f"{place} returned {shorten(result)}. A batched function must return a dict with the columns' names as "
            "keys and a list of values for each."
        )
    lengths = {name: len(values) for name, values in result.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length:,} in {name!r}" for name, length in lengths.items())
        raise DataError(f"{place} returned lists of different lengths: {found}. Return one value a row in each.")
    if INPUT_ROW in result:
        return _check_indices(result[INPUT_ROW], num_rows, place)
    num_returned = next(iter(lengths.values()))
    if num_returned != num_rows:
        raise DataError(
            f"{place} got {num_rows:,} {'row' if num_rows == 1 else 'rows'} and returned {num_returned:,}. To return "
            f"more or fewer, add a list {INPUT_ROW!r} that says for each returned row which row of the batch it is of, "
            "from 0."
        )
    return np.arange(num_rows)


def _check_indices(indices: Sequence[object], num_rows: int, place: str) -> IntArray:
    wrong = [index for index in indices if type(index) is not int or not 0 <= index < num_rows]
    if wrong:
        raise DataError(
            f"{place} returned {shorten(wrong[0])} in {INPUT_ROW!r}; each must be a whole number from 0 to "
            f"{num_rows - 1}."
        )
    found = np.array(indices, dtype=np.int64)
    if np.any(np.diff(found) < 0):
        raise DataError(f"{place} returned rows in another order: the numbers in {INPUT_ROW!r} must not go back.")
    return found


def _holds_lists(result: Mapping[object, object]) -> bool:
    return all(isinstance(name, str) and isinstance(values, (list, tuple)) for name, values in result.items())
