"""Hashes of rows, and how rows become a file: all the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 65_536

HashArray = np.ndarray[Any, np.dtype[Any]]
IntArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def compute_digest(schema: pa.Schema, hashes: HashArray) -> str:
    """The sha256 of rows of canonical types: their column names, types and values, and their order.

    Args:
        schema: The columns, sorted by name.
        hashes: What `hash_rows` gave for all of the columns in this order.

    Returns:
        64 hex digits.
    """
    columns = [[field.name, str(field.type)] for field in schema]
    digest = hashlib.sha256(json.dumps({"layout": 2, "num_rows": len(hashes), "columns": columns}).encode())
    digest.update(np.ascontiguousarray(hashes).data)
    return digest.hexdigest()


def hash_rows(
    table: pa.Table, columns: Sequence[str], *, purpose: str, seed: int = 0, num_bytes: int = 16
) -> HashArray:
    """A hash of each row's values in some columns.

    A number hashes as its text does, and 1.0 as 1: a row's hash stays when other rows change its column's type.

    Args:
        table: A table of canonical types.
        columns: What is hashed, in this order; names do not count.
        purpose: Hashes for different purposes are independent; up to 16 ASCII characters.
        seed: Hashes with different seeds are independent; in [0, 2**64).
        num_bytes: 16 to know a row by its hash, 8 to draw a number for it.

    Returns:
        Big-endian uint64, shape (num_rows, num_bytes / 8).
    """
    person, salt = purpose.encode(), seed.to_bytes(16, "little")
    parts = []
    for batch in table.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS):
        encoded = [_encode_values(column) for column in batch.columns]
        rows = pc.binary_join_element_wise(*encoded, "").cast(pa.binary()).to_pylist()
        parts += [hashlib.blake2b(row, digest_size=num_bytes, person=person, salt=salt).digest() for row in rows]
    return np.frombuffer(b"".join(parts), dtype=">u8").reshape(-1, num_bytes // 8)


def as_fractions(hashes: HashArray) -> FloatArray:
    """Hashes as numbers that are evenly spread over [0, 1), shape (num_rows,)."""
    return hashes[:, 0].astype(np.float64) / 2**64


def number_equals(hashes: HashArray) -> IntArray:
    """How many rows with the same hash come before each row, shape (num_rows,)."""
    ordered = hashes[:, 0].astype(np.uint64)
    ordered.sort()
    if not np.any(ordered[1:] == ordered[:-1]):
        return np.zeros(len(hashes), dtype=np.int64)  # nearly always, and ten times faster
    hashes = hashes.astype(np.uint64)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal hashes stay in the order of the rows
    ordered = hashes[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    positions = np.arange(len(order))
    first = np.maximum.accumulate(np.where(starts, positions, 0))
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = positions - first
    return numbers


def take_across(
    positions: IntArray, sizes: Iterable[int], read: Callable[[int], pa.Table], schema: pa.Schema
) -> pa.Table:
    """The rows at some positions of tables that follow each other, in the order of the positions.

    pyarrow's `take` would join all of the tables first, and fail where a column has more than 2 GiB of text.

    Args:
        positions: Which rows, counted over all tables.
        sizes: How many rows each table has.
        read: Gives a table by its index; asked once for each that is needed.
        schema: The columns.
    """
    starts = np.cumsum([0, *sizes])
    owners = np.searchsorted(starts, positions, side="right") - 1
    order = np.argsort(owners, kind="stable")
    found, bounds = np.unique(owners[order], return_index=True)
    tables = [schema.empty_table()]
    for owner, mine in zip(found.tolist(), np.split(positions[order], bounds[1:]), strict=False):
        tables.append(read(owner).take(pa.array(mine - starts[owner])))
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_tables(tables).take(pa.array(back))


def write_rows(table: pa.Table, path: Path) -> None:
    """Write a table as parquet; equal tables give equal bytes under one version of pyarrow."""
    pq.write_table(table.combine_chunks(), path, compression="zstd")


def _encode_values(column: pa.Array) -> pa.Array:
    """Each value as its length in bytes, a colon and its text; null as a dash. No two lists of values join alike."""
    if pa.types.is_floating(column.type):
        text = pa.array([_decimal_text(value) for value in column.to_pylist()], pa.string())
    else:
        text = column.cast(pa.string())
    lengths = pc.binary_length(text).cast(pa.string())
    return pc.binary_join_element_wise(lengths, text, ":").fill_null("-")


def _decimal_text(value: float | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if value.is_integer() and abs(value) <= 2**53 else repr(value)
