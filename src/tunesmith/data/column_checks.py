"""What a transform asks of the columns that it is given, and how it says that they cannot be used."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from tunesmith.data.columns import to_values
from tunesmith.data.nearest import find_nearest
from tunesmith.data.origins import Rows
from tunesmith.data.values import describe_other, to_texts
from tunesmith.errors import DataError


def check_present(rows: Rows, transform: str, columns: Iterable[str]) -> None:
    """Refuse a transform of a column that is not there.

    Raises:
        DataError: Names the columns that are there, and the nearest.
    """
    present = rows.table.column_names
    missing = next((name for name in columns if name not in present), None)
    if missing is not None:
        raise DataError(
            f"transform {transform}: there is no column {missing!r} at this point ({list_columns(rows)})."
            f"{find_nearest(missing, present)} Correct the name, or the order of the transforms."
        )


def check_new(rows: Rows, transform: str, name: str) -> None:
    """Refuse a transform that would write over a column.

    Raises:
        DataError: The column is there already.
    """
    if name in rows.table.column_names:
        raise DataError(
            f"transform {transform}: there is a column {name!r} already ({list_columns(rows)}). "
            "Choose another name for `into`."
        )


def list_columns(rows: Rows) -> str:
    """The columns that there are, for a message."""
    return f"columns present: {', '.join(rows.table.column_names)}"


def get_texts(rows: Rows, transform: str, name: str) -> pa.ChunkedArray:
    """A column as text; numbers and true/false as csv writes them.

    Raises:
        DataError: It holds a list, an object or text that is not Unicode; names the first.
    """
    column = rows.table[name]
    texts, is_other = to_texts(column)
    if is_other.any():
        row = int(np.argmax(is_other))
        refuse_value(rows, transform, name, row, describe_other(to_values(column.slice(row, 1))[0]))
    return texts


def refuse_value(rows: Rows, transform: str, name: str, row: int, what: str, cure: str | None = None) -> None:
    """Refuse a value that a transform cannot work on.

    Raises:
        DataError: Always; names the row.
    """
    cure = (
        cure or "Use `join` or `explode` on lists before it, drop the row with a filter, or use a function transform."
    )
    raise DataError(f"{rows.origins(row)}: transform {transform}: column {name!r} holds {what}. {cure}")
