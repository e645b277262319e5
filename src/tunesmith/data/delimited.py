"""Reads csv and tsv files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.blocks import BLOCK_ROWS, Block, refuse_nul_in
from tunesmith.data.columns import shorten
from tunesmith.data.files import SourceFile, open_lines, refuse_nul
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

LINE_END = re.compile(r"\r\n|\r|\n")

DELIMITERS = (";", "\t", "|")
"""What separates fields where it is no comma."""
FIELD_LIMIT = 1 << 24
"""Most characters of one field; beyond lies a quote that was never closed, not a text."""


def read_delimited(file: SourceFile, config: DataConfig) -> Iterator[Block]:
    """The rows of a csv or tsv file, all columns as text.

    Raises:
        DataError: The header or a line cannot be used.
    """
    with open_lines(file, config.encoding) as lines:
        reader = _open_reader(lines, file, config)
        try:
            header = config.columns or _read_header(reader, file, config)
            start = reader.line_num + 1
            while rows := list(islice(reader, BLOCK_ROWS)):
                yield _build_block(rows, start, reader.line_num, header, file, config)
                start = reader.line_num + 1
        except csv.Error as error:
            _refuse_quotes(file, config, str(error))


def _open_reader(lines: Iterator[str], file: SourceFile, config: DataConfig) -> Reader:
    csv.field_size_limit(FIELD_LIMIT)
    return csv.reader(
        lines,
        delimiter=config.delimiter or ("," if file.format == "csv" else "\t"),
        quoting=csv.QUOTE_MINIMAL if _quoting(file, config) == "standard" else csv.QUOTE_NONE,
        strict=True,
    )


def _build_block(
    rows: list[list[str]], start: int, end: int, header: Sequence[str], file: SourceFile, config: DataConfig
) -> Block:
    """The block of the rows that stand in lines `start` to `end`."""
    numbers: Sequence[int] = range(start, end + 1)
    if len(numbers) != len(rows):
        numbers = _number_rows(rows, start)
    num_blank = rows.count([])
    if num_blank:
        numbers = [number for number, row in zip(numbers, rows, strict=True) if row]
        rows = [row for row in rows if row]
    if {*map(len, rows)} - {len(header)}:
        number, row = next((number, row) for number, row in zip(numbers, rows, strict=True) if len(row) != len(header))
        _refuse_ragged(f"{file.label}:{number}", row, header, _quoting(file, config))
    fields = zip(*rows, strict=True) if rows else [()] * len(header)
    columns = {name: pa.array(values, pa.string()) for name, values in zip(header, fields, strict=True)}
    refuse_nul_in(columns.values(), file.label, numbers)
    return Block(
        {name: _mark_nulls(column, config.null_values) for name, column in columns.items()}, numbers, num_blank
    )


def _number_rows(rows: Sequence[Sequence[str]], start: int) -> list[int]:
    """The line on which each row starts: a row has one line more than its fields have line ends."""
    numbers = []
    for row in rows:
        numbers.append(start)
        text = "\0".join(row)
        start += 1 + (len(LINE_END.findall(text)) if "\r" in text else text.count("\n"))
    return numbers


def _read_header(reader: Reader, file: SourceFile, config: DataConfig) -> Sequence[str]:
    names = next((row for row in reader if row), None)
    if names is None:
        raise DataError(f"{file.path}: the file is empty. Write its rows, or take it out of data.files.")
    place = f"{file.label}:{reader.line_num}"
    if any("\0" in name for name in names):
        refuse_nul(place)
    other = next((mark for mark in DELIMITERS if len(names) == 1 and mark in names[0]), None)
    if other is not None and file.format == "csv" and config.delimiter is None:
        raise DataError(f"{place}: one column, {shorten(names[0])}. Set data.delimiter, it seems to be {other!r}.")
    if "" in names:
        raise DataError(
            f"{place}: field {names.index('') + 1} of the header has no name: {shorten(names)}. Name every column; an "
            "index that pandas wrote is left out with to_csv(index=False)."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: the header names {twice!r} twice. Give each column a name of its own.")
    return names


def _mark_nulls(column: pa.Array, null_values: Sequence[str]) -> pa.Array:
    if not null_values:
        return column
    return pc.if_else(pc.is_in(column, pa.array(null_values, pa.string())), None, column)


def _refuse_ragged(place: str, row: Sequence[str], header: Sequence[str], quoting: str) -> NoReturn:
    if any("\0" in field for field in row):
        refuse_nul(place)
    fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
    if quoting == "standard":
        cure = "put double quotes around fields that hold the delimiter, or set data.delimiter or data.quoting"
    else:
        cure = "or set data.quoting to standard if double quotes enclose fields"
    raise DataError(
        f"{place}: expected {len(header)} fields ({', '.join(header)}), got {fields}: {shorten(row)}. "
        f"Correct the line, {cure}."
    )


def _refuse_quotes(file: SourceFile, config: DataConfig, reason: str) -> NoReturn:
    """Say where the row starts that the reader could not end: found in a second reading."""
    start = 1
    with open_lines(file, config.encoding) as lines:
        reader = _open_reader(lines, file, config)
        with suppress(csv.Error):
            for _ in reader:
                start = reader.line_num + 1
        end = reader.line_num
    if "unexpected end" in reason or "field limit" in reason:
        what = f"a double quote is opened in the row that starts here and not closed by line {end}"
    elif "expected after" in reason:
        where = "here" if start == end else f"in the row that starts here, on line {end},"
        what = f"{where} text follows a closing double quote; a quote inside a quoted field is written twice"
    else:
        what = reason
    raise DataError(
        f"{file.label}:{start}: {what}. Correct the quotes, or set data.quoting to none if they are plain text."
    )


def _quoting(file: SourceFile, config: DataConfig) -> str:
    return config.quoting or ("standard" if file.format == "csv" else "none")
