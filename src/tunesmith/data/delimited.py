"""Parses csv and tsv files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.blocks import BLOCK_ROWS, MAX_COLUMNS, Block, NeedsMore, refuse_columns, refuse_nul_in
from tunesmith.data.columns import shorten
from tunesmith.data.files import SourceFile, refuse_nul
from tunesmith.data.reader_options import Quoting, ReaderOptions
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

LINE_END = re.compile(r"\r\n|\r|\n")

DELIMITERS = (";", "\t", "|")
"""What separates fields where it is no comma."""

FIELD_LIMIT = 1 << 24
"""Most characters of one field; beyond lies a quote that was never closed, not a text."""


def find_quoting(file: SourceFile, options: ReaderOptions) -> Quoting:
    """Whether double quotes enclose the fields of a csv or tsv file."""
    return options.quoting or ("standard" if file.format == "csv" else "none")


def find_delimiter(file: SourceFile, options: ReaderOptions) -> str:
    """What separates the fields of a csv or tsv file."""
    return options.delimiter or ("," if file.format == "csv" else "\t")


def has_header(options: ReaderOptions) -> bool:
    """Whether the first line of a csv or tsv file names its columns."""
    return options.columns is None if options.header is None else options.header


def parse_header(
    text: str, line: int, file: SourceFile, options: ReaderOptions, *, is_last: bool
) -> tuple[tuple[str, ...], int] | NeedsMore:
    """The names of the columns, and how many lines they take.

    Args:
        text: The beginning of the file.
        line: Number of its first line.
        file: The file.
        options: How it is read.
        is_last: Whether the file ends with the text.

    Raises:
        DataError: There is no header, or it cannot be used.
    """
    reader = _open_reader(text, file, options)
    try:
        names = next((row for row in reader if row), None)
    except csv.Error as error:
        return _explain(error, text, line, None, file, options, is_last=is_last)
    if names is None and is_last:
        raise DataError(f"{file.place}: the file is empty. Write its rows, or take it out of data.sources.")
    if names is None:
        return NeedsMore()
    _check_header(names, f"{file.label}:{line + reader.line_num - 1}", file, options)
    return options.columns or tuple(names), reader.line_num


def parse_delimited(
    text: str, line: int, file: SourceFile, options: ReaderOptions, header: Sequence[str], *, is_last: bool
) -> list[Block] | NeedsMore:
    """The rows of a text that starts with a row, all columns as text.

    Args:
        text: Lines of the file below its header.
        line: Number of the first line.
        file: The file.
        options: How it is read.
        header: The names of the columns.
        is_last: Whether the file ends with the text.

    Raises:
        DataError: A line cannot be used; the first such line is named.
    """
    reader, blocks, start = _open_reader(text, file, options), list[Block](), line
    try:
        while rows := list(islice(reader, BLOCK_ROWS)):
            end = line + reader.line_num - 1
            blocks.append(_build_block(rows, start, end, header, file, options))
            start = end + 1
    except csv.Error as error:
        return _explain(error, text, line, header, file, options, is_last=is_last)
    return blocks


def _open_reader(text: str, file: SourceFile, options: ReaderOptions) -> Reader:
    csv.field_size_limit(FIELD_LIMIT)
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=find_delimiter(file, options),
        quoting=csv.QUOTE_MINIMAL if find_quoting(file, options) == "standard" else csv.QUOTE_NONE,
        strict=True,
    )


def _build_block(
    rows: list[list[str]], start: int, end: int, header: Sequence[str], file: SourceFile, options: ReaderOptions
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
        _refuse_ragged(rows, numbers, header, file, options)
    fields = zip(*rows, strict=True) if rows else [()] * len(header)
    columns = {name: pa.array(values, pa.string()) for name, values in zip(header, fields, strict=True)}
    refuse_nul_in(columns, file, numbers)
    return Block(
        {name: _mark_nulls(column, options.null_values) for name, column in columns.items()}, numbers, num_blank
    )


def _number_rows(rows: Sequence[Sequence[str]], start: int) -> list[int]:
    """The line on which each row starts: a row has one line more than its fields have line ends."""
    numbers = []
    for row in rows:
        numbers.append(start)
        text = "\0".join(row)
        start += 1 + (len(LINE_END.findall(text)) if "\r" in text else text.count("\n"))
    return numbers


def _check_header(names: Sequence[str], place: str, file: SourceFile, options: ReaderOptions) -> None:
    if any("\0" in name for name in names):
        refuse_nul(place)
    if len(names) > MAX_COLUMNS:
        refuse_columns(place, len(names))
    if options.columns is not None:
        if len(names) != len(options.columns):
            raise DataError(
                f"{place}: the header has {len(names)} fields, {shorten(names)}, but the source's columns are "
                f"{len(options.columns)}: {', '.join(options.columns)}. Name each of them."
            )
        return
    other = next((mark for mark in DELIMITERS if len(names) == 1 and mark in names[0]), None)
    if other is not None and file.format == "csv" and options.delimiter is None:
        raise DataError(
            f"{place}: one column, {shorten(names[0])}. Set the source's delimiter, it seems to be {other!r}."
        )
    if "" in names:
        raise DataError(
            f"{place}: field {names.index('') + 1} of the header has no name: {shorten(names)}. Name every column; an "
            "index that pandas wrote is left out with to_csv(index=False)."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: the header names {twice!r} twice. Give each column a name of its own.")


def _mark_nulls(column: pa.Array, null_values: Sequence[str]) -> pa.Array:
    if not null_values:
        return column
    return pc.if_else(pc.is_in(column, pa.array(null_values, pa.string())), None, column)


def _refuse_ragged(
    rows: Sequence[Sequence[str]],
    numbers: Sequence[int],
    header: Sequence[str],
    file: SourceFile,
    options: ReaderOptions,
) -> NoReturn:
    for number, row in zip(numbers, rows, strict=True):
        if any("\0" in field for field in row):
            refuse_nul(f"{file.label}:{number}")
        if len(row) != len(header):
            break
    fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
    if find_quoting(file, options) == "standard":
        cure = "put double quotes around fields that hold the delimiter, or set the source's delimiter or quoting"
    else:
        cure = "or set the source's quoting to standard if double quotes enclose fields"
    raise DataError(
        f"{file.label}:{number}: expected {len(header)} fields ({', '.join(header)}), got {fields}: {shorten(row)}. "
        f"Correct the line, {cure}."
    )


def _explain(
    error: csv.Error,
    text: str,
    line: int,
    header: Sequence[str] | None,
    file: SourceFile,
    options: ReaderOptions,
    *,
    is_last: bool,
) -> NeedsMore:
    """Ask for more of a row that only ends too early; else say which row cannot be read, and on which line it starts.

    A row before it that cannot be used is named first.
    """
    reason = str(error)
    rows, start, end = _read_until_error(text, line, file, options)
    if header is not None:
        _build_block(rows, line, start - 1, header, file, options)
    if "unexpected end" in reason and not is_last:
        return NeedsMore()
    if "unexpected end" in reason or "field limit" in reason:
        what = f"a double quote is opened in the row that starts here and not closed by line {end}"
    elif "expected after" in reason:
        where = "here" if start == end else f"in the row that starts here, on line {end},"
        what = f"{where} text follows a closing double quote; a quote inside a quoted field is written twice"
    else:
        what = reason
    raise DataError(
        f"{file.label}:{start}: {what}. Correct the quotes, or set the source's quoting to none if they are plain text."
    )


def _read_until_error(
    text: str, line: int, file: SourceFile, options: ReaderOptions
) -> tuple[list[list[str]], int, int]:
    """The rows before the one that cannot be read, the line on which that starts, and the line of the error."""
    reader, rows, start = _open_reader(text, file, options), list[list[str]](), line
    try:
        for row in reader:
            rows.append(row)
            start = line + reader.line_num
    except csv.Error:
        pass
    return rows, start, line + reader.line_num - 1
