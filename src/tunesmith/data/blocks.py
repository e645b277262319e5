"""Blocks: what every reader yields, some rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.files import SourceFile, refuse_nul
from tunesmith.errors import DataError

BLOCK_ROWS = 5_000
"""Rows held as Python objects at a time: few enough to stay in the processor's cache."""

MAX_COLUMNS = 10_000
"""Most columns of a file; beyond lies a table that lies on its side."""


@dataclass(frozen=True)
class Block:
    """Some rows of a file.

    Attributes:
        columns: Column name -> its values, of a canonical type, carried, or of type null.
        numbers: Line or row number of each row in its file, from 1.
        num_blank: Blank lines that were read with these rows and are none.
    """

    columns: Mapping[str, pa.Array | pa.ChunkedArray]
    numbers: Sequence[int]
    num_blank: int = 0


@dataclass(frozen=True)
class NeedsMore:
    """What a parser gives for text that ends inside a row."""


def refuse_nul_in(columns: Mapping[str, pa.Array], file: SourceFile, numbers: Sequence[int]) -> None:
    """Refuse text columns with a NUL byte.

    Raises:
        DataError: Names the first row that holds one.
    """
    found = [pc.index(pc.match_substring(column, "\0"), True).as_py() for column in columns.values()]
    rows = [row for row in found if row >= 0]
    if rows:
        refuse_nul(f"{file.prefix}{numbers[min(rows)]}")


def refuse_columns(place: str, num_columns: int) -> NoReturn:
    """Refuse a table with too many columns.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"{place}: {num_columns:,} columns; there may be {MAX_COLUMNS:,}. If the table lies on its side, turn it; if "
        "keys of JSON objects are values, write them as values."
    )
