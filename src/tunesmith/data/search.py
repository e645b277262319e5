"""Finding rows by their values, in no more chunks than it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.nearest import find_nearest
from tunesmith.data.rows import IntArray
from tunesmith.data.verified import Verified
from tunesmith.errors import CallError

BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Found:
    """Rows that were looked for.

    Attributes:
        table: The first of them.
        positions: Where each is, from 0.
        num_matching: How many there are in all; None where the search ended before the last row.
    """

    table: pa.Table
    positions: IntArray
    num_matching: int | None


def find_rows(
    rows: ChunkedRows, files: Verified, conditions: Sequence[str], columns: Sequence[str], *, limit: int
) -> Found:
    """The first rows whose values are the ones asked for.

    Args:
        rows: Where to look.
        files: The files that they lie in.
        conditions: `column=value`, all of which must hold; empty for any row.
        columns: What to tell of a row.
        limit: How many rows.

    Raises:
        CallError: A condition names no column, or its value cannot be in it.
    """
    wanted = [_read_condition(condition, rows.schema) for condition in conditions]
    needed = dict.fromkeys([*columns, *(name for name, _ in wanted)])
    tables = [_select(rows.schema, columns).empty_table()]
    positions: list[IntArray] = []
    num_found = start = 0
    for chunk in rows.chunks:
        if num_found >= limit:
            return _found(tables, positions, None if wanted else rows.num_rows)
        table = files.read(chunk, needed)
        places = np.arange(chunk.num_rows) if not wanted else np.flatnonzero(_match(table, wanted))
        taken = places[: limit - num_found]
        tables.append(table.select(list(columns)).take(pa.array(taken)))
        positions.append(start + taken)
        num_found += len(places)
        start += chunk.num_rows
    return _found(tables, positions, num_found)


def choose_columns(asked: str | None, present: Sequence[str]) -> list[str]:
    """The columns that a comma-separated text names; all of them where there is none.

    Raises:
        CallError: One of them does not exist.
    """
    if asked is None:
        return list(present)
    names = [asked] if asked in present else [name.strip() for name in asked.split(",")]
    for name in names:
        check_column(name, present)
    return list(dict.fromkeys(names))


def check_column(name: str, present: Sequence[str]) -> None:
    """See that there is such a column.

    Raises:
        CallError: There is none.
    """
    if name not in present:
        raise CallError(
            f"there is no column {name!r} (columns present: {', '.join(present)}).{find_nearest(name, present)}"
        )


def _read_condition(condition: str, schema: pa.Schema) -> tuple[str, Any]:
    names = [name for name in schema.names if condition.startswith(f"{name}=")]
    if not names:
        name, separator, _ = condition.partition("=")
        if not separator:
            raise CallError(f"--where {condition!r}: write column=value, such as --where {schema.names[0]}=...")
        check_column(name, schema.names)
    name = max(names, key=len)
    return name, _read_value(name, condition[len(name) + 1 :], schema.field(name).type)


def _read_value(name: str, text: str, kind: pa.DataType) -> Any:
    try:
        if pa.types.is_boolean(kind):
            return BOOLEANS[text.lower()]
        if pa.types.is_integer(kind):
            return pa.scalar(int(text), kind).as_py()
        return float(text) if pa.types.is_floating(kind) else text
    except (ValueError, KeyError, OverflowError, pa.ArrowInvalid):
        expected = "true or false" if pa.types.is_boolean(kind) else "numbers" if text else "numbers, no empty text"
        raise CallError(
            f"--where: column {name!r} holds {kind} values, and {text!r} is none; write {expected}"
        ) from None


def _match(table: pa.Table, wanted: Sequence[tuple[str, Any]]) -> Any:
    masks = [pc.equal(table[name], pa.scalar(value, table[name].type)).fill_null(False) for name, value in wanted]
    return np.logical_and.reduce([mask.to_numpy() for mask in masks])


def _select(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])


def _found(tables: Sequence[pa.Table], positions: Sequence[IntArray], num_matching: int | None) -> Found:
    places = np.concatenate([np.zeros(0, dtype=np.int64), *positions])
    return Found(pa.concat_tables(tables), places, num_matching)
