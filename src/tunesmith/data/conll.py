"""Parses conll files: a line is a token with its tags, and a row is a sentence."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NoReturn

import pyarrow as pa

from tunesmith.data.blocks import BLOCK_ROWS, Block, refuse_nul_in
from tunesmith.data.columns import shorten
from tunesmith.data.files import SourceFile, refuse_nul
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.errors import DataError

SEPARATOR = " "
"""What stands between two tokens of a sentence, and between their tags."""


def parse_conll(text: str, line: int, file: SourceFile, options: ReaderOptions, columns: Sequence[str]) -> list[Block]:
    """A row for each sentence: in each column what its lines hold there, with spaces between.

    A blank line, or one of spaces and tabs alone, ends a sentence.

    Args:
        text: Lines of the file.
        line: Number of the first one.
        file: The file.
        options: How it is read.
        columns: The name of each field of a line.

    Raises:
        DataError: A line has another number of fields, an empty one, or one with a space inside.
    """
    blocks = []
    sentences = _read_sentences(text, line, file, options.delimiter or "\t", columns)
    while rows := list(islice(sentences, BLOCK_ROWS)):
        numbers = [number for number, _ in rows]
        values = {name: pa.array([row[index] for _, row in rows], pa.string()) for index, name in enumerate(columns)}
        refuse_nul_in(values, file, numbers)
        blocks.append(Block(values, numbers))
    return blocks


def _read_sentences(
    text: str, line: int, file: SourceFile, delimiter: str, columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    start, tokens = line, list[list[str]]()
    for number, content in enumerate(io.StringIO(text, newline=""), start=line):
        if content.isspace():
            if tokens:
                yield start, [SEPARATOR.join(values) for values in zip(*tokens, strict=True)]
            tokens = []
            continue
        start = start if tokens else number
        fields = content.rstrip("\r\n").split(delimiter)
        if len(fields) != len(columns) or "" in fields or any(map(_has_space, fields)):
            _refuse_fields(f"{file.label}:{number}", fields, delimiter, columns)
        tokens.append(fields)
    if tokens:
        yield start, [SEPARATOR.join(values) for values in zip(*tokens, strict=True)]


def _has_space(field: str) -> bool:
    return SEPARATOR in field


def _refuse_fields(place: str, fields: Sequence[str], delimiter: str, columns: Sequence[str]) -> NoReturn:
    if any("\0" in field for field in fields):
        refuse_nul(place)
    if len(fields) != len(columns):
        raise DataError(
            f"{place}: expected {len(columns)} fields ({', '.join(columns)}) with {delimiter!r} between, got "
            f"{len(fields)}: {shorten(fields)}. Correct the line, or set the source's columns or delimiter."
        )
    index = next(index for index, field in enumerate(fields) if not field or _has_space(field))
    what = "holds a space, which stands between the tokens of a row" if fields[index] else "is empty"
    raise DataError(
        f"{place}: the field {columns[index]!r} {what}: {shorten(fields[index])}. Write the token without it, or take "
        "the line out."
    )
