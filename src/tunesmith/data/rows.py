"""Hashes of rows and tables, and how a table becomes a file: all the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 65_536

ROWS = "rows.parquet"
"""The file of a snapshot's rows."""

DIGEST_FIELD = b"tunesmith.digest"
"""Where rows.parquet keeps the digest of its rows."""


def compute_digest(table: pa.Table) -> str:
    """The sha256 of a table of canonical types: its column names, types and values, and the order of its rows.

    Returns:
        64 hex digits.
    """
    columns = [[field.name, str(field.type)] for field in table.schema]
    digest = hashlib.sha256(json.dumps({"layout": 1, "num_rows": table.num_rows, "columns": columns}).encode())
    for column in table.columns:
        digest.update(np.packbits(column.is_valid().to_numpy()).tobytes())
        if pa.types.is_string(column.type):
            column = column.fill_null("")
            digest.update(pc.binary_length(column).to_numpy().astype("<i8").tobytes())
            for chunk in column.chunks:
                digest.update(_text_bytes(chunk))
        else:
            values = column.fill_null(pa.scalar(0).cast(column.type)).to_numpy()
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def hash_rows(table: pa.Table, columns: Sequence[str], *, purpose: str, seed: int = 0) -> list[bytes]:
    """A hash of each row's values in some columns.

    A number hashes as its text does, and 1.0 as 1: a row's hash stays when other rows change its column's type.

    Args:
        table: A table of canonical types.
        columns: What is hashed, in this order; names do not count.
        purpose: Hashes for different purposes are independent; up to 16 ASCII characters.
        seed: Hashes with different seeds are independent; in [0, 2**64).

    Returns:
        8 bytes a row.
    """
    person, salt = purpose.encode(), seed.to_bytes(16, "little")
    hashes: list[bytes] = []
    for batch in table.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS):
        encoded = [_encode_values(column) for column in batch.columns]
        rows = pc.binary_join_element_wise(*encoded, "").to_pylist()
        hashes += [hashlib.blake2b(row.encode(), digest_size=8, person=person, salt=salt).digest() for row in rows]
    return hashes


def identify_rows(table: pa.Table) -> list[str]:
    """A name for each row: the hash of all its values, numbered where rows are equal.

    Returns:
        16 hex digits a row; the second of equal rows ends in `-2`, the third in `-3`.
    """
    times: dict[bytes, int] = {}
    names = []
    for row_hash in hash_rows(table, sorted(table.column_names), purpose="tunesmith row"):
        count = times[row_hash] = times.get(row_hash, 0) + 1
        names.append(row_hash.hex() if count == 1 else f"{row_hash.hex()}-{count}")
    return names


def write_rows(table: pa.Table, path: Path) -> None:
    """Write a table as parquet; equal tables give equal bytes under one version of pyarrow."""
    pq.write_table(table.combine_chunks(), path, compression="zstd")


def read_rows(path: Path) -> pa.Table:
    """A table that `write_rows` wrote."""
    with pq.ParquetFile(path) as parquet:
        return parquet.read()


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


def _text_bytes(chunk: pa.Array) -> bytes:
    """The bytes of an array's texts, one after the other."""
    _, offsets, data = chunk.buffers()
    if data is None or len(chunk) == 0:
        return b""
    bounds = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return bytes(memoryview(data)[bounds[0] : bounds[-1]])
