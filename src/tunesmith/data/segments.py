"""Cuts the text of a file into segments, at places that its content decides.

A segment ends behind a unit (a line, a csv record, a paragraph) whose checksum says so. Lines that are put in, changed
or taken out change the segments around them, and leave all others byte for byte as they were.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice, pairwise, repeat
from typing import NamedTuple, NoReturn

import numpy as np

from tunesmith.data.columns import shorten
from tunesmith.data.contents import decode_contents
from tunesmith.data.files import SourceFile
from tunesmith.data.origins import IntArray
from tunesmith.errors import DataError

LINE_FEED, QUOTE = b"\n", b'"'

LINE_END = re.compile(rb"\r\n|\r|\n")
BLANK_LINE = re.compile(rb"^[ \t\r\f\v]*\n", re.MULTILINE)

CHECKSUM_OF_NOTHING = 0xFFFFFFFF
"""So that an empty line, of which there are many, is never the last of a segment."""


class Unit(Enum):
    """What a segment holds a whole number of."""

    LINE = "line"
    RECORD = "record"
    """Lines, where a line that ends inside double quotes goes on in the next one."""
    PARAGRAPH = "paragraph"
    """Lines up to and with a blank one."""


@dataclass(frozen=True)
class SegmentSizes:
    """How large segments are.

    Attributes:
        minimum: Fewest bytes, but for the last one; at least 1.
        mean: Bytes of a segment on average, when each unit counts `unit_bytes` besides its own.
        maximum: Most bytes; only a unit that is longer makes a longer segment.
        unit_bytes: What a unit counts besides its bytes, so that segments of short lines hold few enough of them.
        longest_unit: Most bytes of a unit; beyond lies a file without line ends, not a row.
    """

    minimum: int = 1 << 18
    mean: int = 1 << 20
    maximum: int = 1 << 23
    unit_bytes: int = 128
    longest_unit: int = 1 << 24


DEFAULT_SIZES = SegmentSizes()


@dataclass(frozen=True)
class Segment:
    """Consecutive lines of a file.

    Attributes:
        data: The lines with their ends, in UTF-8 (but not yet checked to be) and without a byte-order mark.
        first_line: Number of the first line in the file, from 1.
        is_last: Whether the file ends here.
        end: Bytes of the file's text up to where it ends.
    """

    data: bytes
    first_line: int
    is_last: bool
    end: int = field(default=0, compare=False)

    @property
    def next_line(self) -> int:
        """Number of the line behind it."""
        return self.first_line + count_line_ends(self.data)

    def join(self, following: Segment) -> Segment:
        """This segment and the one behind it, as one."""
        return Segment(self.data + following.data, self.first_line, following.is_last, following.end)

    def without_lines(self, num_lines: int) -> Segment:
        """What is left of it without its first lines."""
        start = 0
        for match in islice(LINE_END.finditer(self.data), num_lines):
            start = match.end()
        start = start if num_lines <= count_line_ends(self.data) else len(self.data)
        return Segment(self.data[start:], self.first_line + num_lines, self.is_last, self.end)


class Resume(NamedTuple):
    """Where reading goes on, behind segments that are known.

    Attributes:
        end: Bytes of the file's text up to there.
        line: Number of the line there.
        header: The names of the file's columns, where lines do not name them themselves.
    """

    end: int
    line: int
    header: tuple[str, ...] | None


def count_line_ends(data: bytes) -> int:
    """How many lines end in a text: with LF, CR LF or a lone CR."""
    line_ends = data.count(b"\n")
    return line_ends + data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else line_ends


def cut_segments(
    file: SourceFile,
    encoding: str,
    unit: Unit = Unit.LINE,
    sizes: SegmentSizes = DEFAULT_SIZES,
    resume: Resume | None = None,
) -> Iterator[Segment]:
    """The segments of a file, one after the other; none of a file without text.

    Where the cuts lie follows from the text alone. They come behind an LF, whatever else ends lines. Where a cut lies
    follows from the one before it, so that reading may go on behind any.

    Raises:
        DataError: The file cannot be read, is not in this encoding, or has a unit that is too long.
    """
    line, offset = (1, 0) if resume is None else (resume.line, resume.end)
    chunks, text, is_all = decode_contents(file, encoding, offset), b"", False
    enough = 2 * sizes.maximum
    while text or not is_all:
        text, is_all = _fill(text, chunks, enough)
        cuts = _find_cuts(text, unit, sizes, is_all=is_all)
        for start, end in pairwise([0, *cuts]):
            segment = Segment(text[start:end], line, is_all and end == len(text), offset + end)
            if end - start > sizes.longest_unit:
                _refuse_length(file, segment, unit, sizes)
            yield segment
            line = segment.next_line
        text, offset = (text[cuts[-1] :], offset + cuts[-1]) if cuts else (text, offset)
        enough = 2 * sizes.maximum if cuts else sizes.maximum + sizes.longest_unit + 1
        if len(text) >= enough and not cuts:
            _refuse_length(file, Segment(text, line, is_all), unit, sizes)


def _fill(text: bytes, chunks: Iterator[bytes], enough: int) -> tuple[bytes, bool]:
    """Text with what follows it, and whether that is all of it."""
    parts, num_bytes = [text], len(text)
    while num_bytes < enough:
        chunk = next(chunks, None)
        if chunk is None:
            return b"".join(parts), True
        parts.append(chunk)
        num_bytes += len(chunk)
    return b"".join(parts), False


def _find_cuts(text: bytes, unit: Unit, sizes: SegmentSizes, *, is_all: bool) -> list[int]:
    """Where to cut a text that starts with a segment: the ends of all segments that end in it for sure."""
    line_ends = _find_all(text, LINE_FEED) + 1
    ends = _find_unit_ends(text, line_ends, unit)
    chosen = _choose_ends(text, ends, sizes, is_every_line=len(ends) == len(line_ends))
    cuts, start = list[int](), 0
    while start < len(text):
        limit = start + sizes.maximum
        cut = _first_from(chosen, start + sizes.minimum, limit)
        is_forced = cut is None
        if is_forced and len(text) > limit:
            cut = _last_until(ends, start, limit)
            if cut is None and unit is Unit.RECORD:
                cut = _last_until(line_ends, start, limit)
            if cut is None:
                cut = _first_from(line_ends if unit is Unit.RECORD else ends, limit, len(text))
        if cut is None and is_all:
            cut = len(text)
        if cut is None or (cut == len(text) and not is_all):
            break
        cuts.append(cut)
        start = cut
        if is_forced and unit is Unit.RECORD:
            break  # perhaps inside quotes that are none: what follows is looked at anew
    return cuts


def _find_unit_ends(text: bytes, line_ends: IntArray, unit: Unit) -> IntArray:
    if unit is Unit.RECORD and QUOTE in text:
        is_closed = np.searchsorted(_find_all(text, QUOTE), line_ends) % 2 == 0
        return np.compress(is_closed, line_ends)
    if unit is Unit.PARAGRAPH:
        return np.array([match.end() for match in BLANK_LINE.finditer(text)], dtype=np.int64)
    return line_ends


def _choose_ends(text: bytes, ends: IntArray, sizes: SegmentSizes, *, is_every_line: bool) -> IntArray:
    """The ends of the units whose checksum says so; a long one's does more often."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if len(ends) else ends
    if is_every_line:
        units: Iterable[bytes | memoryview] = text.split(LINE_FEED)[: len(ends)]
    else:
        view = memoryview(text)
        units = (view[start:end] for start, end in zip(starts.tolist(), (ends - 1).tolist(), strict=True))
    checksums = np.fromiter(map(zlib.crc32, units, repeat(CHECKSUM_OF_NOTHING)), dtype=np.int64, count=len(ends))
    chosen: IntArray = ends[checksums * sizes.mean < (ends - starts + sizes.unit_bytes) << 32]
    return chosen


def _find_all(text: bytes, byte: bytes) -> IntArray:
    places: IntArray = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == byte[0])
    return places


def _first_from(places: IntArray, start: int, limit: int) -> int | None:
    """The first place in [start, limit]."""
    index = int(np.searchsorted(places, start))
    return int(places[index]) if index < len(places) and places[index] <= limit else None


def _last_until(places: IntArray, start: int, limit: int) -> int | None:
    """The last place in (start, limit]."""
    index = int(np.searchsorted(places, limit, side="right")) - 1
    return int(places[index]) if index >= 0 and places[index] > start else None


def _refuse_length(file: SourceFile, segment: Segment, unit: Unit, sizes: SegmentSizes) -> NoReturn:
    what = "paragraph" if unit is Unit.PARAGRAPH else "line"
    limit = f"{sizes.longest_unit / 2**20:g} MiB"
    is_old = b"\n" not in segment.data and b"\r" in segment.data
    cure = "Lines end with a lone CR here: write them with LF." if is_old else f"Cut the {what}, or leave it out."
    raise DataError(
        f"{file.label}:{segment.first_line}: a {what} of more than {limit}, which starts with "
        f"{shorten(segment.data[:60].decode(errors='replace'))}. {cure}"
    )
