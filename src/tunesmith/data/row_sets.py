"""Sets of rows, each known by the hash in its name: 8 bytes a row, so that a model can say which rows it has seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NAME_DIGITS = 16
"""What all equal rows have in common of their names: `name_rows` puts what tells them apart behind it."""

RowNumbers = np.ndarray[Any, np.dtype[np.uint64]]
"""Numbers that stand for rows; a set of rows is sorted, and has each once."""


def number_rows(names: pa.ChunkedArray) -> RowNumbers:
    """The number of each row, shape (num_rows,), from the names that the split stage gave them."""
    digits = pc.utf8_slice_codeunits(names, 0, NAME_DIGITS).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(digits)), dtype=">u8").astype(np.uint64)


def unite(*numbers: RowNumbers) -> RowNumbers:
    """The set of all rows among some numbers."""
    return np.unique(np.concatenate(numbers))


def find_members(numbers: RowNumbers, rows: RowNumbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which numbers are in a set of rows, shape (len(numbers),)."""
    return np.isin(numbers, rows)


def dump_rows(rows: RowNumbers) -> bytes:
    """A set of rows as bytes, the most significant first: equal sets give equal bytes."""
    return rows.astype(">u8").tobytes()


def read_rows(path: Path) -> RowNumbers:
    """The set of rows in a file that holds what `dump_rows` gave."""
    return np.frombuffer(path.read_bytes(), dtype=">u8").astype(np.uint64)


def digest_rows(rows: RowNumbers) -> str:
    """The sha256 of a set of rows, and of its file; 64 hex digits."""
    return hashlib.sha256(dump_rows(rows)).hexdigest()
