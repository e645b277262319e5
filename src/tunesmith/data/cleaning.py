"""Applies the transforms of a recipe, and accounts for every row that they drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.columns import combine, from_values, settle, shorten, to_values
from tunesmith.data.files import find_nearest
from tunesmith.data.functions import call_with_rows
from tunesmith.data.origins import Rows
from tunesmith.data.transforms import (
    DeriveLength,
    DropDuplicates,
    DropNull,
    Function,
    FunctionOptions,
    LengthOptions,
    Rename,
    Select,
    SelectOptions,
    Shuffle,
    Transform,
)
from tunesmith.errors import DataError

Dropped = Mapping[str, int]
"""Reason -> how many rows were dropped for it."""


def apply_transforms(rows: Rows, transforms: Sequence[Transform]) -> tuple[Rows, Counter[str]]:
    """Apply the transforms in their order.

    Returns:
        The rows that are left, and how many were dropped, by reason.

    Raises:
        DataError: A transform cannot be applied to the columns that there are, or none of the rows is left.
    """
    dropped: Counter[str] = Counter()
    for transform in transforms:
        num_rows = rows.table.num_rows
        rows, reasons = _apply(rows, transform)
        dropped.update({reason: number for reason, number in reasons.items() if number})
        if len(rows.origins.numbers) == 0:
            raise DataError(
                f"transform {next(iter(transform.key_fields()))}: drops all of the {num_rows:,} rows that reach it "
                f"({', '.join(reasons)}). Correct the transform, or the rows."
            )
    return rows, dropped


def _apply(rows: Rows, transform: Transform) -> tuple[Rows, Dropped]:
    match transform:
        case Rename():
            return _rename(rows, transform.rename), {}
        case DropNull():
            return _drop_null(rows, transform.drop_null)
        case DropDuplicates():
            return _drop_duplicates(rows, transform.drop_duplicates)
        case DeriveLength():
            return _derive_length(rows, transform.derive_length), {}
        case Select():
            return _select(rows, transform.select)
        case Shuffle():
            return _shuffle(rows, transform.shuffle.seed), {}
        case Function():
            return _call_function(rows, transform.function)


def _rename(rows: Rows, names: Mapping[str, str]) -> Rows:
    _check_present(rows, "rename", names)
    renamed = [names.get(name, name) for name in rows.table.column_names]
    twice = next((name for name in renamed if renamed.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"transform rename: two columns would be called {twice!r} ({_list_columns(rows)}). "
            "Choose another name, or leave one column out with select first."
        )
    return rows._replace(table=rows.table.rename_columns(renamed))


def _drop_null(rows: Rows, columns: Sequence[str]) -> tuple[Rows, Dropped]:
    _check_present(rows, "drop_null", columns)
    kept = np.ones(rows.table.num_rows, dtype=bool)
    dropped = {}
    for name in columns:
        is_valid = rows.table[name].is_valid().to_numpy()
        dropped[f"no {name}"] = int(np.count_nonzero(kept & ~is_valid))
        kept &= is_valid
    return rows.take(np.flatnonzero(kept)), dropped


def _drop_duplicates(rows: Rows, columns: Sequence[str]) -> tuple[Rows, Dropped]:
    _check_present(rows, "drop_duplicates", columns)
    numbered = rows.table.select(list(dict.fromkeys(columns))).append_column("", pa.array(range(rows.table.num_rows)))
    first = numbered.group_by(numbered.column_names[:-1]).aggregate([("", "min")])["_min"]
    kept = np.sort(first.to_numpy())
    return rows.take(kept), {f"duplicate {', '.join(columns)}": rows.table.num_rows - len(kept)}


def _derive_length(rows: Rows, options: LengthOptions) -> Rows:
    _check_present(rows, "derive_length", [options.column])
    if options.into in rows.table.column_names:
        raise DataError(
            f"transform derive_length: there is a column {options.into!r} already ({_list_columns(rows)}). "
            "Choose another name for `into`."
        )
    column = rows.table[options.column]
    if not pa.types.is_string(column.type):
        first = shorten(to_values(column[:1])[0])
        raise DataError(
            f"transform derive_length: column {options.column!r} is not text (first: {first}). Name a text column."
        )
    if options.unit == "characters":
        lengths = pc.utf8_length(column).cast(pa.int64())
    else:
        words = [None if text is None else len(text.split()) for text in column.to_pylist()]
        lengths = pa.array(words, pa.int64())
    return rows._replace(table=rows.table.append_column(options.into, lengths))


def _select(rows: Rows, options: SelectOptions) -> tuple[Rows, Dropped]:
    table, origins = rows
    if options.columns is not None:
        _check_present(rows, "select", options.columns)
        table = table.select(list(dict.fromkeys(options.columns)))
    if options.first is None or options.first >= table.num_rows:
        return Rows(table, origins), {}
    kept = Rows(table, origins).take(np.arange(options.first))
    return kept, {f"beyond the first {options.first:,}": table.num_rows - options.first}


def _shuffle(rows: Rows, seed: int) -> Rows:
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    return rows.take(np.random.RandomState(seed).permutation(rows.table.num_rows))


def _call_function(rows: Rows, options: FunctionOptions) -> tuple[Rows, Dropped]:
    columns = {name: to_values(rows.table[name]) for name in rows.table.column_names}
    given = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    results = call_with_rows(options, given, rows.origins)
    kept = np.array([index for index, row in enumerate(results) if row is not None], dtype=np.int64)
    returned = [row for row in results if row is not None]
    names = dict.fromkeys(name for row in returned for name in row)
    table = pa.table({name: settle(combine([from_values([row.get(name) for row in returned])])) for name in names})
    return Rows(table, rows.origins.take(kept)), {f"function {options.path}": len(results) - len(kept)}


def _check_present(rows: Rows, transform: str, columns: Sequence[str] | Mapping[str, str]) -> None:
    present = rows.table.column_names
    missing = next((name for name in columns if name not in present), None)
    if missing is not None:
        raise DataError(
            f"transform {transform}: there is no column {missing!r} at this point ({_list_columns(rows)})."
            f"{find_nearest(missing, present)} Correct the name, or the order of the transforms."
        )


def _list_columns(rows: Rows) -> str:
    return f"columns present: {', '.join(rows.table.column_names)}"
