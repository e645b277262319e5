"""Spans: consecutive rows of a file that a stream reads whole, found once and read again in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tunesmith.data.blocks import Block, NeedsMore
from tunesmith.data.contents import MARK, decode_contents, is_utf8, open_contents
from tunesmith.data.files import SourceFile
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.readers import Header, has_segments, map_segments, parse_segment, read_blocks, refuse_no_rows
from tunesmith.data.segments import (
    DEFAULT_SIZES,
    Segment,
    SegmentSizes,
    count_line_ends,
    cut_segments,
)
from tunesmith.data.shuffling import SpanList
from tunesmith.errors import DataError

SPAN_BYTES = 1 << 18
"""Bytes of a span: small, so that a buffer holds rows from many places; large enough that looking it up is nothing."""

MAX_SPANS = 1 << 16
"""About how many spans there are at most: beyond, they are larger."""


@dataclass(frozen=True)
class FileSpans:
    """Where the spans of a file lie.

    Attributes:
        file: The file.
        header: The names of its columns, where its lines do not name them.
        has_segments: Whether it is read as text. If not, `starts` counts blocks of rows and not bytes.
        starts: Where each span starts in its text, in bytes of UTF-8 without a byte-order mark; last, where it ends.
        numbers: The line or row with which each span starts, from 1; last, the one behind the end.
    """

    file: SourceFile
    header: Header
    has_segments: bool
    starts: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def num_spans(self) -> int:
        """How many spans it has."""
        return len(self.starts) - 1

    @property
    def num_lines(self) -> int:
        """How many lines or rows it has."""
        return self.numbers[-1] - self.numbers[0]

    def as_json(self) -> dict[str, Any]:
        """As JSON values; of the file itself, only what it holds."""
        return {**vars(self), "file": self.file.sha256}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], file: SourceFile) -> FileSpans:
        """What `as_json` gave, of a file that lies where it lies now.

        Raises:
            DataError: The file holds something else.
        """
        if file.sha256 != values["file"]:
            raise DataError(
                f"{file.place}: the file has changed since the stream was described: its sha256 was {values['file']} "
                f"and is {file.sha256}. Bring the file back as it was, or begin anew with what it is now."
            )
        return cls(
            file,
            None if values["header"] is None else tuple(values["header"]),
            values["has_segments"],
            tuple(values["starts"]),
            tuple(values["numbers"]),
        )


def find_span_bytes(files: Sequence[SourceFile]) -> int:
    """How large the spans of some files are."""
    return max(SPAN_BYTES, sum(file.size_bytes for file in files) // MAX_SPANS)


def find_spans(file: SourceFile, options: ReaderOptions, span_bytes: int) -> FileSpans:
    """Cut a file into spans; where a row of it may go over several lines, it is parsed for that.

    Raises:
        DataError: The file cannot be read, has no rows, or is one JSON value.
    """
    if file.format == "json":
        raise DataError(
            f"{file.place}: a json file is one value, which cannot be read in parts. Write it as jsonl, or take "
            "`streaming` out."
        )
    if not has_segments(file, options):
        return _count_blocks(file, options)
    if file.format == "jsonl" or (file.format == "text" and options.unit != "paragraph"):
        pieces, header = _cut_lines(file, options, span_bytes), None
        starts, numbers = [0], [1]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
            numbers.append(numbers[-1] + count_line_ends(piece))
    else:
        header, starts, numbers = _cut_rows(file, options, span_bytes)
    if len(starts) == 1:
        refuse_no_rows(file, options)
    return FileSpans(file, header, True, tuple(starts), tuple(numbers))


def list_spans(files: Sequence[FileSpans], options: Sequence[ReaderOptions]) -> SpanList:
    """The spans of all files, one after the other.

    Args:
        files: The files.
        options: How each file is read.
    """
    strands: list[int] = []
    num_lines: list[int] = []
    for spans, how in zip(files, options, strict=True):
        first = strands[-1] + 1 if strands else 0
        strands += [first + (index if can_jump(spans, how) else 0) for index in range(spans.num_spans)]
        num_lines += [max(1, end - start) for start, end in pairwise(spans.numbers)]
    return SpanList(np.array(strands, dtype=np.int64), np.array(num_lines, dtype=np.int64))


def can_jump(spans: FileSpans, options: ReaderOptions) -> bool:
    """Whether a span can be read without what lies before it: not where every jump might copy an object from S3."""
    if spans.file.remote is not None:
        return False
    return spans.has_segments and spans.file.compression is None and is_utf8(options.encoding)


class SpanReader:
    """Reads spans of one file; what can only be read from front to end stays open until its end.

    Args:
        spans: Where they lie.
        options: How the file is read.
    """

    def __init__(self, spans: FileSpans, options: ReaderOptions) -> None:
        self._spans, self._options = spans, options
        self._next = 0
        self._blocks: Iterator[Sequence[Block]] | None = None

    def read(self, index: int) -> Sequence[Block]:
        """The rows of a span.

        Raises:
            DataError: The file has changed, or a row cannot be used.
        """
        if can_jump(self._spans, self._options):
            return self._parse(index, self._jump(index))
        if self._blocks is None or index < self._next:
            self.close()
            self._blocks = self._read_from(index)
        blocks: Sequence[Block] = ()
        while self._next <= index:
            blocks = next(self._blocks)
            self._next += 1
        if self._next == self._spans.num_spans:
            self.close()
        return blocks

    def close(self) -> None:
        """Close the file."""
        self._blocks, self._next = None, 0

    def _jump(self, index: int) -> bytes:
        start, end = self._spans.starts[index : index + 2]
        with open_contents(self._spans.file) as (stream, _):
            mark = len(MARK) if stream.read(len(MARK)) == MARK else 0
            stream.seek(mark + start)
            return stream.read(end - start)

    def _read_from(self, first: int) -> Iterator[Sequence[Block]]:
        """The rows of each span of a file that is read from front to end; of those before `first`, nothing."""
        if not self._spans.has_segments:
            for block in read_blocks(self._spans.file, self._options):
                yield [block]
            return
        for index, text in enumerate(self._read_texts()):
            yield self._parse(index, text) if index >= first else ()

    def _read_texts(self) -> Iterator[bytes]:
        chunks = decode_contents(self._spans.file, self._options.encoding)
        text, position = b"", 0
        for start, end in pairwise(self._spans.starts):
            while position + len(text) < end:
                text += next(chunks)
            yield text[start - position : end - position]
            text, position = text[end - position :], end

    def _parse(self, index: int, text: bytes) -> Sequence[Block]:
        spans = self._spans
        segment = Segment(text, spans.numbers[index], index == spans.num_spans - 1)
        blocks = parse_segment(segment, spans.file, self._options, spans.header)
        if isinstance(blocks, NeedsMore):
            raise DataError(f"{spans.file.place}: the file has changed since the stream began. Begin it again.")
        return blocks


def _count_blocks(file: SourceFile, options: ReaderOptions) -> FileSpans:
    numbers = [1]
    for block in read_blocks(file, options):
        numbers.append(numbers[-1] + len(block.numbers))
    if len(numbers) == 1:
        refuse_no_rows(file, options)
    return FileSpans(file, None, False, tuple(range(len(numbers))), tuple(numbers))


def _cut_lines(file: SourceFile, options: ReaderOptions, span_bytes: int) -> Iterator[bytes]:
    """The text of a file in which a row is a line, cut behind line ends."""
    text = b""
    for chunk in decode_contents(file, options.encoding):
        text += chunk
        start = 0
        while len(text) - start >= span_bytes and (end := text.find(b"\n", start + span_bytes - 1) + 1):
            yield text[start:end]
            start = end
        text = text[start:]
        if len(text) > DEFAULT_SIZES.longest_unit + span_bytes:
            for _ in cut_segments(file, options.encoding):
                pass  # says which line is too long
    if text:
        yield text


def _cut_rows(file: SourceFile, options: ReaderOptions, span_bytes: int) -> tuple[Header, list[int], list[int]]:
    """Where spans start in a file whose rows may go over several lines, or that has a header."""
    found: list[Header] = []

    def parse(segment: Segment, header: Header) -> bool | NeedsMore:
        found.append(header)
        blocks = parse_segment(segment, file, options, header)
        return blocks if isinstance(blocks, NeedsMore) else True

    sizes = SegmentSizes(minimum=span_bytes // 2, mean=span_bytes // 2, maximum=4 * span_bytes)
    starts, numbers = list[int](), list[int]()
    for segment, _ in map_segments(file, options, parse, sizes):
        if not starts:
            starts, numbers = [_skip_lines(file, options, segment.first_line - 1)], [segment.first_line]
        if segment.data:
            starts.append(starts[-1] + len(segment.data))
            numbers.append(segment.next_line)
    return found[0] if found else None, starts or [0], numbers or [1]


def _skip_lines(file: SourceFile, options: ReaderOptions, num_lines: int) -> int:
    """How many bytes of a file's text its first lines take."""
    text = b""
    for chunk in decode_contents(file, options.encoding):
        text += chunk
        if count_line_ends(text[:-1]) >= num_lines:
            break
    return len(text) - len(Segment(text, 1, False).without_lines(num_lines).data) if num_lines else 0
