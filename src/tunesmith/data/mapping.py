"""Applies local transforms to a part of the rows, and accounts for every row that they drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.column_checks import check_present, list_columns, refuse_value
from tunesmith.data.columns import from_values, shorten, to_values
from tunesmith.data.derived import derive_column
from tunesmith.data.filters import find_dropped
from tunesmith.data.function_calls import call_function
from tunesmith.data.operations import Operation, apply_operations
from tunesmith.data.origins import Rows
from tunesmith.data.rows import as_fractions, hash_rows
from tunesmith.data.transforms import (
    Derive,
    DropNull,
    Explode,
    Filter,
    Function,
    Map,
    RemoveColumns,
    Rename,
    Sample,
    SampleOptions,
    SelectColumns,
    Transform,
)
from tunesmith.data.values import BoolArray
from tunesmith.errors import DataError

Dropped = Mapping[str, int]
"""Reason -> how many rows were dropped for it; none with 0."""


def apply_local(rows: Rows, transform: Transform) -> tuple[Rows, Dropped]:
    """Apply a local transform to a part of the rows.

    Args:
        rows: Any number of rows, even none. Where there is not even a column, a function made nothing of no rows, and
            what its columns are is not known here.
        transform: One for which `is_local` holds.

    Returns:
        The rows that are left, and how many were dropped, by reason. Texts are not settled into numbers: that is for
        when all parts are known. Only `explode` and a batched function make more rows: rows in + rows added =
        rows out + rows dropped.

    Raises:
        DataError: The transform cannot be applied to the columns that there are, or to a value.
    """
    if not rows.table.column_names:
        return rows, {}
    match transform:
        case Rename():
            return _rename(rows, transform.rename), {}
        case SelectColumns():
            return _select_columns(rows, transform.select_columns), {}
        case RemoveColumns():
            return _remove_columns(rows, transform.remove_columns), {}
        case DropNull():
            return _drop_null(rows, transform.drop_null)
        case Filter():
            check_present(rows, "filter", [transform.filter.column])
            return _drop(rows, find_dropped(rows.table[transform.filter.column], transform.filter))
        case Map():
            return _map(rows, transform.map), {}
        case Derive():
            return derive_column(rows, transform.derive), {}
        case Explode():
            return _explode(rows, list(dict.fromkeys(transform.explode)))
        case Function():
            return call_function(rows, transform.function)
        case Sample() if transform.sample.fraction is not None:
            return _sample(rows, transform.sample, transform.sample.fraction)
    raise TypeError(f"{type(transform).__name__} looks at all rows")


def _rename(rows: Rows, names: Mapping[str, str]) -> Rows:
    check_present(rows, "rename", names)
    renamed = [names.get(name, name) for name in rows.table.column_names]
    twice = next((name for name in renamed if renamed.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"transform rename: two columns would be called {twice!r} ({list_columns(rows)}). "
            "Choose another name, or leave one column out with remove_columns first."
        )
    return rows._replace(table=rows.table.rename_columns(renamed))


def _select_columns(rows: Rows, columns: Sequence[str]) -> Rows:
    check_present(rows, "select_columns", columns)
    return rows._replace(table=rows.table.select(list(dict.fromkeys(columns))))


def _remove_columns(rows: Rows, columns: Sequence[str]) -> Rows:
    check_present(rows, "remove_columns", columns)
    if set(columns) == set(rows.table.column_names):
        raise DataError(f"transform remove_columns: leaves no column ({list_columns(rows)}). Keep at least one.")
    return rows._replace(table=rows.table.drop_columns(list(dict.fromkeys(columns))))


def _drop_null(rows: Rows, columns: Sequence[str]) -> tuple[Rows, Dropped]:
    check_present(rows, "drop_null", columns)
    return _drop(rows, ((f"no {name}", ~rows.table[name].is_valid().to_numpy()) for name in columns))


def _drop(rows: Rows, reasons: Iterable[tuple[str, BoolArray]]) -> tuple[Rows, Dropped]:
    """Drop the rows that any reason speaks of; each row counts once, for its first."""
    kept = np.ones(rows.table.num_rows, dtype=bool)
    dropped: Counter[str] = Counter()
    for reason, is_meant in reasons:
        dropped[reason] += int(np.count_nonzero(kept & is_meant))
        kept &= ~is_meant
    return (rows if kept.all() else rows.take(np.flatnonzero(kept))), dict(+dropped)


def _map(rows: Rows, operations: Mapping[str, Sequence[Operation]]) -> Rows:
    check_present(rows, "map", operations)
    for name, chosen in operations.items():
        rows = apply_operations(rows, name, chosen)
    return rows


def _explode(rows: Rows, columns: Sequence[str]) -> tuple[Rows, Dropped]:
    check_present(rows, "explode", columns)
    rows, dropped = _drop(rows, _find_without_items(rows, columns))
    lists = {name: to_values(rows.table[name]) for name in columns}
    num_items = [
        _count_items(rows, row, {name: lists[name][row] for name in columns}) for row in range(rows.table.num_rows)
    ]
    table = rows.table
    for name in columns:  # so that no list is copied for each of its items
        table = _set_column(table, name, pa.nulls(table.num_rows))
    taken = Rows(table, rows.origins).take(np.repeat(np.arange(table.num_rows), num_items))
    table = taken.table
    for name, values in lists.items():
        table = _set_column(table, name, from_values([item for items in values for item in items]))
    return taken._replace(table=table), dropped


def _find_without_items(rows: Rows, columns: Sequence[str]) -> Iterator[tuple[str, BoolArray]]:
    for name in columns:
        values = to_values(rows.table[name])
        yield f"no {name}", np.array([value is None for value in values], dtype=bool)
        yield f"empty list in {name}", np.array([value == [] for value in values], dtype=bool)


def _count_items(rows: Rows, row: int, values: Mapping[str, Any]) -> int:
    lengths: dict[str, int] = {}
    for name, value in values.items():
        if not isinstance(value, list):
            cure = "Correct the row, or drop it with a filter."
            refuse_value(rows, "explode", name, row, f"{shorten(value)}, which is no list", cure)
        lengths[name] = len(value)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} in {name!r}" for name, length in lengths.items())
        raise DataError(
            f"{rows.origins(row)}: transform explode: the lists have different lengths ({found}). Correct the row, or "
            "explode one column after the other."
        )
    return lengths.popitem()[1]


def _set_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _sample(rows: Rows, options: SampleOptions, fraction: float) -> tuple[Rows, Dropped]:
    columns = sorted(rows.table.column_names)
    hashes = hash_rows(rows.table, columns, purpose="tunesmith samp", seed=options.seed)
    return _drop(rows, [(f"outside the sample of {fraction:g}", as_fractions(hashes) >= fraction)])
