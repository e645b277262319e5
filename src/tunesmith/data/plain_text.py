"""Parses text files: a row is a line, a paragraph or the whole file, in the column `text`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

from tunesmith.data.blocks import BLOCK_ROWS, Block, refuse_nul_in
from tunesmith.data.files import SourceFile

COLUMN = "text"


def parse_lines(text: str, line: int, file: SourceFile) -> list[Block]:
    """A row for each line; blank lines are none.

    Args:
        text: Lines of the file.
        line: Number of the first one.
        file: The file.

    Raises:
        DataError: The text holds a NUL byte.
    """
    return list(_build_blocks(_number_lines(text, line), file))


def parse_paragraphs(text: str, line: int, file: SourceFile) -> list[Block]:
    """A row for each paragraph; blank lines end one. Arguments and errors are those of `parse_lines`."""
    return list(_build_blocks(_join_paragraphs(_number_lines(text, line)), file))


def parse_document(text: str, file: SourceFile) -> list[Block]:
    """The text as one row; none where it is blank.

    Raises:
        DataError: The text holds a NUL byte.
    """
    return list(_build_blocks([(1, text)] if text.strip() else [], file))


def _number_lines(text: str, line: int) -> Iterator[tuple[int, str]]:
    lines = io.StringIO(text, newline="")
    return ((number, content.rstrip("\r\n")) for number, content in enumerate(lines, start=line))


def _build_blocks(rows: Iterable[tuple[int, str]], file: SourceFile) -> Iterator[Block]:
    rows = iter(rows)
    while block := list(islice(rows, BLOCK_ROWS)):
        kept = [(number, text) for number, text in block if text and not text.isspace()]
        numbers = [number for number, _ in kept]
        columns = {COLUMN: pa.array([text for _, text in kept], pa.string())}
        refuse_nul_in(columns, file, numbers)
        yield Block(columns, numbers, num_blank=len(block) - len(kept))


def _join_paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    start, paragraph = 0, list[str]()
    for number, line in lines:
        if line and not line.isspace():
            start = start if paragraph else number
            paragraph.append(line)
        elif paragraph:
            yield start, "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield start, "\n".join(paragraph)
