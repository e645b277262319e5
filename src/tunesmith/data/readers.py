"""Reads files of any format, some rows at a time.

Line-based formats are read segment by segment, so that a segment that was read before need not be read again; reading
them so gives the rows, the line numbers and the errors of reading the file as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from tunesmith.data.blocks import Block, NeedsMore
from tunesmith.data.columnar import read_columnar
from tunesmith.data.conll import parse_conll
from tunesmith.data.contents import decode_contents, refuse_encoding
from tunesmith.data.delimited import find_quoting, has_header, parse_delimited, parse_header
from tunesmith.data.files import SourceFile
from tunesmith.data.plain_text import parse_document, parse_lines, parse_paragraphs
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.records import parse_jsonl, read_json
from tunesmith.data.segments import DEFAULT_SIZES, Resume, Segment, SegmentSizes, Unit, cut_segments
from tunesmith.errors import DataError

LINE_FORMATS = ("csv", "tsv", "jsonl", "conll", "text")
"""Formats that are read segment by segment, but for text files that are one row each."""

Header = tuple[str, ...] | None
"""The names of a file's columns, where lines do not name them themselves."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""What stands for a byte that is not UTF-8."""

T = TypeVar("T")

ParseSegment = Callable[[Segment, Header], T | NeedsMore]
"""What is made of a segment that starts with a row; it says when the segment ends inside one."""


def has_segments(file: SourceFile, options: ReaderOptions) -> bool:
    """Whether a file is read segment by segment."""
    return file.format in LINE_FORMATS and options.unit != "document"


def map_segments(
    file: SourceFile,
    options: ReaderOptions,
    parse: ParseSegment[T],
    sizes: SegmentSizes = DEFAULT_SIZES,
    resume: Resume | None = None,
) -> Iterator[tuple[Segment, T]]:
    """Give every segment of a file to `parse`, joined with what follows as long as it ends inside a row.

    Args:
        file: A file that has segments.
        options: How it is read.
        parse: `parse_segment`, or what finds its result elsewhere.
        sizes: How large segments are.
        resume: Where to begin, when it is not the file's beginning.

    Returns:
        Each segment, without the header, and what `parse` made of it.

    Raises:
        DataError: The file cannot be read, or what `parse` raises.
    """
    header: Header = options.columns if file.format in ("csv", "tsv", "conll") else None
    is_headed = not (file.format in ("csv", "tsv") and has_header(options))
    if resume is not None:
        header, is_headed = resume.header, True
    waiting: Segment | None = None
    enough = 0
    for found in cut_segments(file, options.encoding, _find_unit(file, options), sizes, resume):
        segment = found if waiting is None else waiting.join(found)
        waiting = segment
        if len(segment.data) < enough and not segment.is_last:
            continue
        # A quote that is never closed would else be parsed once for each segment behind it.
        enough = len(segment.data) * 3 // 2
        if not is_headed:
            taken = _take_header(segment, file, options)
            if isinstance(taken, NeedsMore):
                continue
            is_headed, (header, segment) = True, taken
            waiting = segment
        result = parse(segment, header)
        if not isinstance(result, NeedsMore):
            waiting, enough = None, 0
            yield segment, result
    if not is_headed:
        parse_header("", 1, file, options, is_last=True)


def parse_segment(
    segment: Segment, file: SourceFile, options: ReaderOptions, header: Header
) -> list[Block] | NeedsMore:
    """The rows of a segment that starts with a row.

    Raises:
        DataError: A row cannot be used; the first such row is named, by its line in the file.
    """
    try:
        text = segment.data.decode()
    except UnicodeDecodeError as error:
        good = segment.data[: segment.data.rfind(b"\n", 0, error.start) + 1].decode()
        _parse_text(good, segment.first_line, file, options, header, is_last=False)
        refuse_encoding(file, options.encoding)
    return _parse_text(text, segment.first_line, file, options, header, is_last=segment.is_last)


def read_blocks(file: SourceFile, options: ReaderOptions) -> Iterator[Block]:
    """The rows of a file that has no segments, in blocks that appended rows leave as they are.

    Raises:
        DataError: The file or a row cannot be used.
    """
    match file.format:
        case "json":
            return read_json(file, options)
        case "parquet" | "arrow":
            return read_columnar(file)
        case _:
            return iter(parse_document(_read_document(file, options.encoding), file))


def read_file(file: SourceFile, options: ReaderOptions, sizes: SegmentSizes = DEFAULT_SIZES) -> Iterator[Block]:
    """The rows of a file of any format, some at a time.

    Raises:
        DataError: The file or a row cannot be used, or there is none.
    """
    num_rows = 0
    for block in _read_any(file, options, sizes):
        num_rows += len(block.numbers)
        yield block
    if not num_rows:
        refuse_no_rows(file, options)


def refuse_no_rows(file: SourceFile, options: ReaderOptions) -> NoReturn:
    """Refuse a file without rows.

    Raises:
        DataError: Always.
    """
    below = " below its header" if file.format in ("csv", "tsv") and has_header(options) else ""
    raise DataError(f"{file.place}: the file has no rows{below}. Write some, or take it out of data.sources.")


def _read_any(file: SourceFile, options: ReaderOptions, sizes: SegmentSizes) -> Iterator[Block]:
    if not has_segments(file, options):
        yield from read_blocks(file, options)
        return

    def parse(segment: Segment, header: Header) -> list[Block] | NeedsMore:
        return parse_segment(segment, file, options, header)

    for _, blocks in map_segments(file, options, parse, sizes):
        yield from blocks


def _find_unit(file: SourceFile, options: ReaderOptions) -> Unit:
    if file.format == "conll" or options.unit == "paragraph":
        return Unit.PARAGRAPH
    is_quoted = file.format in ("csv", "tsv") and find_quoting(file, options) == "standard"
    return Unit.RECORD if is_quoted else Unit.LINE


def _take_header(segment: Segment, file: SourceFile, options: ReaderOptions) -> tuple[Header, Segment] | NeedsMore:
    """The names in a file's first lines, and what is below them."""
    text = segment.data.decode(errors="surrogateescape")
    if SURROGATE.search(text.partition("\n")[0]):
        refuse_encoding(file, options.encoding)
    found = parse_header(text, segment.first_line, file, options, is_last=segment.is_last)
    if isinstance(found, NeedsMore):
        return found
    names, num_lines = found
    return names, segment.without_lines(num_lines)


def _parse_text(
    text: str, line: int, file: SourceFile, options: ReaderOptions, header: Header, *, is_last: bool
) -> list[Block] | NeedsMore:
    match file.format:
        case "jsonl":
            return parse_jsonl(text, line, file)
        case "text" if options.unit == "paragraph":
            return parse_paragraphs(text, line, file)
        case "text":
            return parse_lines(text, line, file)
    assert header is not None, "the columns of csv, tsv and conll files are named before their rows"
    if file.format == "conll":
        return parse_conll(text, line, file, options, header)
    return parse_delimited(text, line, file, options, header, is_last=is_last)


def _read_document(file: SourceFile, encoding: str) -> str:
    parts, num_bytes = [], 0
    for chunk in decode_contents(file, encoding):
        parts.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > DEFAULT_SIZES.longest_unit:
            raise DataError(
                f"{file.place}: a document of more than {DEFAULT_SIZES.longest_unit:,} bytes. Cut it, or set the "
                "source's unit to paragraph or line."
            )
    try:
        return b"".join(parts).decode()
    except UnicodeError:
        refuse_encoding(file, encoding)
