"""Canonical column types: the same values have the same type, whichever format they were read from.

A column is text (string), whole numbers (int64), decimal numbers (float64) or true/false (bool). What fits none of
these is *carried* as JSON while a transform may still drop or mend it, and refused at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, time
from decimal import Decimal
from types import NoneType
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.errors import DataError

CARRIED = pa.large_binary()
"""The type of a carried column: each value as JSON. No canonical column has this type."""

LARGEST_EXACT = 2**53
"""Whole numbers up to here are exact as float64."""

Origin = Callable[[int], str]


def from_values(values: Sequence[Any]) -> pa.Array:
    """An array of Python values, of a canonical type where they have one; of type null where all are None."""
    types = set(map(type, values)) - {NoneType}
    try:
        if not types:
            return pa.nulls(len(values))
        if types == {str}:
            return pa.array(values, pa.string())
        if types == {bool}:
            return pa.array(values, pa.bool_())
        if types == {int}:
            return pa.array(values, pa.int64())
        if types <= {int, float}:
            return _without_nan(pa.array(values, pa.float64()))
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
        return carry(values)
    if any(issubclass(kind, (date, time, Decimal, np.generic)) for kind in types):
        return from_values([_plain(value) for value in values])
    return carry(values)


def from_arrow(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of any Arrow type as one of a canonical type where it has one.

    Raises:
        pa.ArrowInvalid: The column holds text that is not UTF-8.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return from_arrow(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        return from_arrow(column.cast(kind.value_type))
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column.validate(full=True)
        return column.cast(pa.string())
    if pa.types.is_floating(kind):
        return _without_nan(column.cast(pa.float64()))
    try:
        if pa.types.is_integer(kind):
            return column.cast(pa.int64())
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return column.cast(pa.string())
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    except pa.ArrowInvalid:
        pass
    return pa.chunked_array([from_values(column.to_pylist())])


def carry(values: Sequence[Any]) -> pa.Array:
    """An array of type CARRIED."""
    encoded = [None if value is None else json.dumps(value, default=_plain).encode() for value in values]
    return pa.array(encoded, CARRIED)


def to_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The Python values of an array, carried ones as they were."""
    values = column.to_pylist()
    if column.type == CARRIED:
        return [None if value is None else json.loads(value) for value in values]
    return list(values)


def settle_carried(table: pa.Table) -> pa.Table:
    """A table with a canonical type for each carried column that has one, now that other rows are gone."""
    columns = [
        pa.chunked_array([from_values(to_values(column))]) if column.type == CARRIED else column
        for column in table.columns
    ]
    return pa.table(columns, table.column_names)


def refuse_carried(table: pa.Table, origins: Origin) -> None:
    """Refuse a table that still has a carried column.

    Raises:
        DataError: Names the column, the rows, their values and what to do.
    """
    for name in table.column_names:
        if table[name].type == CARRIED:
            _refuse_values(name, to_values(table[name]), origins)


def shorten(value: object, limit: int = 60) -> str:
    """A value as JSON, cut to what a message can hold."""
    text = json.dumps(value, ensure_ascii=False, default=_plain).encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _refuse_values(name: str, values: Sequence[Any], origins: Origin) -> NoReturn:
    cure = (
        "leave the column out (`select_columns` or `remove_columns`), or turn it into text with a function transform."
    )
    first_of: dict[str, int] = {}
    for row, value in enumerate(values):
        if isinstance(value, (list, dict)):
            what = "a list" if isinstance(value, list) else "an object"
            raise DataError(
                f"{origins(row)}: column {name!r} holds {what}, {shorten(value)}; it must hold text, numbers or "
                f"true/false. Correct the rows, {cure}"
            )
        first_of.setdefault(_describe(value), row)
    first_of.pop("null", None)
    if len({"number" if what.endswith("number") else what for what in first_of}) > 1:
        found = "; ".join(f"{what} in {origins(row)}: {shorten(values[row])}" for what, row in first_of.items())
        raise DataError(f"column {name!r} mixes types ({found}). Correct the rows so that all hold one type, {cure}")
    unheld = _find_unholdable(values)
    if unheld is not None:
        raise DataError(
            f"{origins(unheld)}: column {name!r}: {shorten(values[unheld])} cannot be held exactly (whole numbers have "
            f"at most 64 bits, 53 beside decimal numbers; text must be Unicode). Correct the value, {cure}"
        )
    first = next(row for row, value in enumerate(values) if value is not None)
    raise DataError(
        f"{origins(first)}: column {name!r}: its values, such as {shorten(values[first])}, have no type together. "
        f"Correct the rows, {cure}"
    )


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int):
        return "whole number"
    return "decimal number" if isinstance(value, float) else "text"


def _find_unholdable(values: Sequence[Any]) -> int | None:
    """The first row whose value cannot be held in a column of one type, if there is one."""
    for limit in (2**63, LARGEST_EXACT):
        for row, value in enumerate(values):
            if _is_not_unicode(value) or _exceeds(value, limit):
                return row
    return None


def _exceeds(value: object, limit: int) -> bool:
    if isinstance(value, str):
        return value.lstrip("-").isdecimal() and not -limit <= int(value) < limit
    return isinstance(value, int) and not -limit <= value < limit


def _is_not_unicode(value: object) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _plain(value: object) -> object:
    """A value without a JSON form as one with it."""
    if isinstance(value, (date, time)):
        return value.isoformat() if value == value else None  # pandas' NaT is a datetime, and not itself
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, NoneType)):
        return value
    return {type(value).__name__: len(value) if isinstance(value, bytes) else repr(value)}


def _without_nan(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(pc.is_nan(column), None, column)
