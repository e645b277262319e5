"""Blocks: what every reader yields, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.files import refuse_nul

BLOCK_ROWS = 5_000
"""Rows held as Python objects at a time: few enough to stay in the processor's cache."""


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


def refuse_nul_in(columns: Iterable[pa.Array], label: str, numbers: Sequence[int]) -> None:
    """Refuse text columns with a NUL byte.

    Raises:
        DataError: Names the first row that holds one.
    """
    for column in columns:
        row = pc.index(pc.match_substring(column, "\0"), True).as_py()
        if row >= 0:
            refuse_nul(f"{label}:{numbers[row]}")
