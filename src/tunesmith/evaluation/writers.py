"""Files of predictions: written aside, some rows at a time, and renamed when they are whole."""

from __future__ import annotations

import csv
import gzip
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.columns import CARRIED, to_values
from tunesmith.data.reader_options import find_format
from tunesmith.errors import CallError

OutputFormat = Literal["csv", "jsonl", "parquet"]
Write = Callable[[pa.Table], None]
"""Appends rows; the columns are those of the first call."""


def find_output_format(target: Path) -> OutputFormat:
    """The format that a target's name asks for.

    Raises:
        CallError: It asks for none that can be written.
    """
    found = find_format(target.name)
    suffix = target.suffix.lower()
    if (found in ("csv", "jsonl") and suffix not in (".bz2", ".zst")) or (found == "parquet" and suffix == ".parquet"):
        return found
    raise CallError(f"{target}: predictions are written as .csv, .jsonl (each also with .gz) or .parquet; name it so")


@contextmanager
def open_writer(target: Path, *, has_header: bool = True) -> Iterator[Write]:
    """A function that appends rows to `target`, which appears, or is replaced, when the block ends without an error.

    Args:
        target: Its name says the format.
        has_header: Whether a csv file begins with the names of its columns.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        if find_output_format(target) == "parquet":
            with _open_parquet(aside) as write:
                yield write
        else:
            with _open_text(aside, is_gzip=target.suffix.lower() == ".gz") as file:
                is_csv = find_output_format(target) == "csv"
                yield _write_csv(file, has_header=has_header) if is_csv else _write_jsonl(file)
        _sync(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _open_parquet(path: Path) -> Iterator[Write]:
    writer: pq.ParquetWriter | None = None

    def write(rows: pa.Table) -> None:
        nonlocal writer
        rows = _without_carried(rows)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _open_text(path: Path, *, is_gzip: bool) -> Iterator[TextIO]:
    if is_gzip:
        # Neither name nor time: the same rows are the same bytes.
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
            TextIOWrapper(packed, encoding="utf-8", newline="") as file,
        ):
            yield file
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file


def _write_csv(file: TextIO, *, has_header: bool) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    is_first = has_header

    def write(rows: pa.Table) -> None:
        nonlocal is_first
        if is_first:
            writer.writerow(rows.column_names)
            is_first = False
        columns = [[_as_field(value) for value in column.to_pylist()] for column in _without_carried(rows).columns]
        writer.writerows(zip(*columns, strict=True))

    return write


def _write_jsonl(file: TextIO) -> Write:
    def write(rows: pa.Table) -> None:
        names = rows.column_names
        columns = [to_values(column) for column in rows.columns]
        for values in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n")

    return write


def _as_field(value: object) -> object:
    # As JSON and our own readers spell it, not as Python does.
    return str(value).lower() if isinstance(value, bool) else value


def _without_carried(rows: pa.Table) -> pa.Table:
    """Lists and objects of the source as the JSON text that they are."""
    for number, field in enumerate(rows.schema):
        if field.type == CARRIED:
            rows = rows.set_column(number, field.name, rows[field.name].cast(pa.string()))
    return rows


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
