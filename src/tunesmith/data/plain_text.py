"""Reads text files: a row is a line or a paragraph, in the column `text`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from tunesmith.data.blocks import BLOCK_ROWS, Block, refuse_nul_in
from tunesmith.data.files import SourceFile, open_lines
from tunesmith.data.sources import DataConfig

COLUMN = "text"


def read_text(file: SourceFile, config: DataConfig) -> Iterator[Block]:
    """The lines or paragraphs of a text file; blank lines are none, and end a paragraph.

    Raises:
        DataError: The file cannot be read.
    """
    with open_lines(file, config.encoding) as raw:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(raw, start=1))
        rows = _join_paragraphs(lines) if config.unit == "paragraph" else lines
        while block := list(islice(rows, BLOCK_ROWS)):
            kept = [(number, text) for number, text in block if text and not text.isspace()]
            numbers = [number for number, _ in kept]
            column = pa.array([text for _, text in kept], pa.string())
            refuse_nul_in([column], file.label, numbers)
            yield Block({COLUMN: column}, numbers, num_blank=len(block) - len(kept))


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
