"""Rows made of Python values, and transforms as a recipe would give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from tunesmith.data.columns import from_values, to_values
from tunesmith.data.mapping import Dropped, apply_local
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.transforms import Transform

_TRANSFORM: TypeAdapter[Transform] = TypeAdapter(Transform)


def rows_of(**columns: list[Any]) -> Rows:
    """Rows of the file `f`, the first on its line 2."""
    table = pa.table({name: column_of(*values) for name, values in columns.items()})
    numbers = np.arange(2, table.num_rows + 2)
    return Rows(table, Origins(("f:",), np.zeros(table.num_rows, np.int32), numbers))


def column_of(*values: Any) -> pa.ChunkedArray:
    """A column of Python values, in two chunks."""
    column = from_values(values)
    half = len(values) // 2
    return pa.chunked_array([column.slice(0, half), column.slice(half)])


def values_of(rows: Rows) -> dict[str, list[Any]]:
    """The values of rows, carried ones as they were."""
    return {name: to_values(rows.table[name]) for name in rows.table.column_names}


def lines_of(rows: Rows) -> list[int]:
    """The lines that rows came from."""
    return list(rows.origins.numbers.tolist())


def read_transform(transform: dict[str, Any], folder: Path = Path()) -> Transform:
    """A transform as a recipe in `folder` would give it."""
    return _TRANSFORM.validate_json(json.dumps(transform), context={"folder": folder})


def apply(rows: Rows, transform: dict[str, Any], folder: Path = Path()) -> tuple[Rows, Dropped]:
    """Apply a local transform to rows."""
    return apply_local(rows, read_transform(transform, folder))
