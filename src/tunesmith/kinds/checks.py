"""Checks of rows that every kind of task makes."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.errors import DataError
from tunesmith.kinds.protocol import Origins


def check_columns(table: pa.Table, required: Sequence[str], origins: Origins) -> None:
    """Refuse a table without a required column.

    Raises:
        DataError: Names every missing column, those that are there, and the nearest.
    """
    missing = [name for name in required if name not in table.column_names]
    if missing:
        present = ", ".join(repr(name) for name in table.column_names)
        hints = "".join(_hint(name, table.column_names) for name in missing)
        names = ", ".join(repr(name) for name in missing)
        word = "column" if len(missing) == 1 else "columns"
        place = f"{origins(0)}: " if table.num_rows else ""
        raise DataError(
            f"{place}there is no {word} {names} in the data; columns present: {present}.{hints} "
            "Correct the names in the recipe's examples section, or add a rename transform."
        )


def check_not_empty(num_rows: int) -> None:
    """Refuse data without rows.

    Raises:
        DataError: Says where the rows may have gone.
    """
    if num_rows == 0:
        raise DataError("no rows are left; look at the transforms in the recipe's data section and at the files.")


def check_text(table: pa.Table, column: str, origins: Origins) -> None:
    """Refuse a column that is not text, or that has rows without a value. Empty texts are allowed.

    Raises:
        DataError: Names the first row, its value, and how many there are.
    """
    check_no_nulls(table, column, origins)
    values = table[column]
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if len(values) and not is_text:
        raise DataError(
            f"{origins(0)}: column {column!r} holds {describe_type(values.type)}, not text (first: "
            f"{values[0].as_py()!r}). Name the column with the text in the recipe's examples section."
        )


def check_no_nulls(table: pa.Table, column: str, origins: Origins) -> None:
    """Refuse a column that has rows without a value.

    Raises:
        DataError: Names the first row and how many there are.
    """
    values = table[column]
    if values.null_count == 0:
        return
    first = pc.index(pc.is_null(values), True).as_py()
    raise DataError(
        f"{origins(first)}: no value in column {column!r} ({count_rows(values.null_count)} of {len(values)} have "
        f"none; this is the first). Fill it in, or add the transform `drop_null: [{column}]` to the data section."
    )


def describe_type(kind: pa.DataType) -> str:
    """A column's type, as a person would say it."""
    if pa.types.is_integer(kind):
        return "whole numbers"
    if pa.types.is_floating(kind):
        return "decimal numbers"
    if pa.types.is_boolean(kind):
        return "true/false values"
    return f"values of type {kind}"


def count_rows(number: int) -> str:
    """A number of rows in words.

    Example:
        >>> count_rows(1), count_rows(3)
        ('1 row', '3 rows')
    """
    return f"{number} row" if number == 1 else f"{number} rows"


def row_number(row: int) -> str:
    """Where a row is, when no more is known than its number from 0.

    Example:
        >>> row_number(0)
        'row 1'
    """
    return f"row {row + 1}"


def _hint(name: str, present: Sequence[str]) -> str:
    near = get_close_matches(name.lower(), [column.lower() for column in present], n=1)
    if not near:
        return ""
    match = next(column for column in present if column.lower() == near[0])
    return f" Did you mean {match!r} for {name!r}?"
