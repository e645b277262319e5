"""Labels as people write them in tables: as text, numbers or true/false. Here they are all text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.errors import DataError
from tunesmith.kinds.checks import count_rows, describe_type, row_number
from tunesmith.kinds.protocol import Origins

MAX_WHOLE = 2.0**53
"""From here on, a float cannot tell neighbouring whole numbers apart."""
MAX_NAMED = 20
"""Labels that an error names before it only counts them."""


def as_text(column: pa.ChunkedArray, name: str, origins: Origins) -> pa.ChunkedArray:
    """Labels as text: 1 and 1.0 are "1", True is "true".

    Raises:
        DataError: A value is no label; names where it is from.
    """
    if len(column) == 0:
        return pa.chunked_array([], pa.string())
    if pa.types.is_floating(column.type):
        is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), MAX_WHOLE))
        first = pc.index(is_whole, False).as_py()
        if first >= 0:
            raise DataError(
                f"{origins(first)}: column {name!r} has the value {column[first].as_py()!r}; text-classification needs "
                "classes, not decimal numbers. Name the column with the class, or derive one with a function transform."
            )
        column = column.cast(pa.int64())
    is_named = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (is_named or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(
            f"{origins(0)}: column {name!r} holds {describe_type(column.type)}; a label is text, a whole number or "
            "true/false."
        )
    return column.cast(pa.string())


def check_members(found: pa.ChunkedArray, labels: Sequence[str], column: str, origins: Origins) -> None:
    """Refuse a label outside of the set that the recipe gives.

    Raises:
        DataError: Names the first, the set, and how many rows there are.
    """
    outside = pc.invert(pc.is_in(found, value_set=pa.array(labels, pa.string())))
    number = pc.sum(outside).as_py()
    if number:
        first = pc.index(outside, True).as_py()
        raise DataError(
            f"{origins(first)}: column {column!r} has the label {found[first].as_py()!r}, which is not in "
            f"examples.labels ({name_some(labels)}); {count_rows(number)} of {len(found)} have such a label. "
            "Add the label to the set, or correct the rows."
        )


def name_some(labels: Sequence[str]) -> str:
    """Labels in words, of many only the first."""
    named = ", ".join(repr(label) for label in labels[:MAX_NAMED])
    return named if len(labels) <= MAX_NAMED else f"{named} and {len(labels) - MAX_NAMED} more"


def find_ids(table: pa.Table, column: str, labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """The id of each row's label: its place in the set.

    Args:
        table: Rows with a `row_id`.
        column: The column with the labels.
        labels: The set.

    Raises:
        DataError: A label is not in the set; names the row.
    """
    names = as_text(table[column], column, row_number)
    ids = pc.index_in(names, value_set=pa.array(labels, pa.string()))
    if ids.null_count:
        first = pc.index(pc.is_null(ids), True).as_py()
        raise DataError(
            f"row {table['row_id'][first].as_py()}: column {column!r} has the label {names[first].as_py()!r}, "
            f"which no row of the train split has ({name_some(labels)}). Add examples of it, or list all labels in "
            "examples.labels."
        )
    return np.asarray(ids.to_numpy())
