"""From files to parts: a segment that was read before, in whatever file, is not read again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.beginnings import (
    RAW,
    Beginning,
    Found,
    list_parts,
    recall_beginning,
    recall_parts,
    remember_beginning,
)
from tunesmith.data.blocks import Block, NeedsMore
from tunesmith.data.column_types import unite
from tunesmith.data.files import SourceFile
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.parts import SOURCE, SUFFIX, Part, write_part
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.readers import Header, has_segments, map_segments, parse_segment, read_blocks, refuse_no_rows
from tunesmith.data.rows import compute_digest, hash_rows
from tunesmith.data.segments import Resume, Segment
from tunesmith.data.sources import DataConfig, reader_options
from tunesmith.errors import DataError
from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.keys import KEY_LENGTH, compute_key
from tunesmith.store.ref import Facts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        parts: All rows, in the order of the files.
        num_blank: Blank lines, which are none.
        rows_of_file: Rows of each file, without the blank lines.
    """

    parts: tuple[Part, ...]
    num_blank: int
    rows_of_file: tuple[int, ...]


def read_parts(files: Sequence[SourceFile], data: DataConfig, cache: ChunkCache) -> Reading:
    """Read files into parts.

    Args:
        files: The files, as they were fetched.
        data: How they are read.
        cache: Where parts are kept.

    Raises:
        DataError: A file or a row cannot be used, or the files of one source have different columns.
    """
    parts: list[Part] = []
    rows_of_file: list[int] = []
    columns: dict[int, tuple[SourceFile, tuple[str, ...]]] = {}
    for file in files:
        source = data.sources[file.source]
        reader = _FileReader(file, reader_options(source), cache)
        found = reader.parts(source.name)
        rows_of_file.append(sum(part.num_rows for part in found))
        if not rows_of_file[-1]:
            refuse_no_rows(file, reader.options)
        _check_columns(file, found, columns)
        parts += found
    num_blank = sum(part.facts["num_blank"] for part in parts)
    return Reading(tuple(part for part in parts if part.num_rows), num_blank, tuple(rows_of_file))


class _FileReader:
    """Reads one file."""

    def __init__(self, file: SourceFile, options: ReaderOptions, cache: ChunkCache) -> None:
        self.file, self.options, self.cache = file, options, cache
        self.identity = {
            "format": file.format,
            "options": options.key_fields(),
            "code": code_identity(["tunesmith.data.readers", "tunesmith.data.reading"]),
            "pyarrow": pa.__version__,
        }

    def parts(self, source: str | None) -> list[Part]:
        """The parts of the file; where it was read before, it is not even opened."""
        found = self._recall() or self._read_and_remember()
        return [self._make_part(item, number, source) for number, item in enumerate(found)]

    def _make_part(self, found: Found, number: int, source: str | None) -> Part:
        def make(path: Path) -> Facts:
            return self._read_again(number, path)

        file, chunk = self.file, found.chunk
        return Part(RAW, chunk.key, chunk.facts, make, file.label, file.prefix, found.first, source)

    def _index_key(self) -> str:
        return compute_key({"file": self.file.sha256, **self.identity})

    def _recall(self) -> list[Found] | None:
        index = self.cache.find("index", self._index_key())
        path = None if index is None else self.cache.open(index)
        return None if path is None else recall_parts(json.loads(path.read_bytes()), self.cache)

    def _read_and_remember(self) -> list[Found]:
        found = self._read_segments() if has_segments(self.file, self.options) else [*self._read_blocks()]

        def write(path: Path) -> None:
            path.write_text(json.dumps(list_parts(found)), encoding="utf-8")

        self.cache.put("index", self._index_key(), ".txt", write)
        return found

    def _read_segments(self) -> list[Found]:
        """Read the segments; of a file that has grown since it was read, only those behind what is known."""
        encoding = self.options.encoding
        found, resume = recall_beginning(self.file, encoding, self.identity, self.cache)
        ends = [resume]

        def parse(segment: Segment, header: Header) -> tuple[Chunk, Header] | NeedsMore:
            chunk = self._find_segment(segment, header)
            return chunk if isinstance(chunk, NeedsMore) else (chunk, header)

        for segment, (chunk, header) in map_segments(self.file, self.options, parse, resume=resume):
            found.append(Found(chunk, segment.first_line))
            ends.append(Resume(segment.end, segment.next_line, header))
        if len(ends) > 1:
            beginning = Beginning(found[:-1], ends[-2])  # the last segment may go on
            remember_beginning(beginning, self.file, encoding, self.identity, self.cache)
        return found

    def _find_segment(self, segment: Segment, header: Header) -> Chunk | NeedsMore:
        key = self._segment_key(segment, header)
        known = self.cache.find(RAW, key)
        if known is not None:
            return known
        blocks = parse_segment(segment, self.file, self.options, header)
        if isinstance(blocks, NeedsMore):
            return blocks
        return self.cache.put(RAW, key, SUFFIX, lambda path: self._write(blocks, segment.first_line, path))

    def _read_blocks(self) -> Iterator[Found]:
        for block in read_blocks(self.file, self.options):
            if len(block.numbers):
                yield self._put_block(block)

    def _put_block(self, block: Block) -> Found:
        first = int(block.numbers[0])
        table = join_blocks([block], self.file)
        digest = compute_digest(table.schema, hash_rows(table, table.column_names, purpose="tunesmith raw"))
        key = digest[:KEY_LENGTH]
        chunk = self.cache.find(RAW, key) or self.cache.put(
            RAW, key, SUFFIX, lambda path: self._write([block], first, path)
        )
        return Found(chunk, first)

    def _read_again(self, number: int, path: Path) -> Facts:
        """Write a part whose bytes are gone."""
        log.info("%s: reading part %d again", self.file.label, number + 1)

        def parse(segment: Segment, header: Header) -> list[Block] | NeedsMore:
            return parse_segment(segment, self.file, self.options, header)

        if has_segments(self.file, self.options):
            for index, (segment, blocks) in enumerate(map_segments(self.file, self.options, parse)):
                if index == number:
                    return self._write(blocks, segment.first_line, path)
        for index, block in enumerate(block for block in read_blocks(self.file, self.options) if len(block.numbers)):
            if index == number:
                return self._write([block], int(block.numbers[0]), path)
        raise DataError(f"{self.file.place}: the file has changed while it was read. Run again.")

    def _segment_key(self, segment: Segment, header: Header) -> str:
        digest = hashlib.sha256(segment.data).hexdigest()
        return compute_key({"segment": digest, "header": header, **self.identity})

    def _write(self, blocks: Sequence[Block], first: int, path: Path) -> Facts:
        table = join_blocks(blocks, self.file)
        numbers = np.concatenate([np.zeros(0, np.int64), *(np.asarray(block.numbers, np.int64) for block in blocks)])
        origins = Origins((self.file.prefix,), np.zeros(len(numbers), dtype=np.int32), numbers)
        facts = write_part(Rows(table, origins), first, path)
        return {**facts, "num_blank": sum(block.num_blank for block in blocks)}


def join_blocks(blocks: Sequence[Block], file: SourceFile) -> pa.Table:
    """Consecutive blocks as one table, each column written as it was.

    Raises:
        DataError: There are rows, and none has a key.
    """
    written = [block for block in blocks if len(block.numbers)]
    names = dict.fromkeys(name for block in written for name in block.columns)
    if written and not names:
        raise DataError(
            f"{file.prefix}{written[0].numbers[0]}: the rows have no keys at all. "
            'Write objects such as {"text": "..."}.'
        )
    columns: dict[str, Any] = {}
    for name in names:
        columns[name] = unite([block.columns.get(name, pa.nulls(len(block.numbers))) for block in written])
    return pa.table(columns)


def _check_columns(
    file: SourceFile, parts: Sequence[Part], seen: dict[int, tuple[SourceFile, tuple[str, ...]]]
) -> None:
    """Refuse files of one source with different columns; a JSON row may leave a key out: it is null there."""
    columns = tuple(dict.fromkeys(name for part in parts for name in part.facts["columns"]))
    if parts[0].source is not None and SOURCE in columns:
        raise DataError(
            f"{file.place}: has a column {SOURCE!r}, where each row gets the name of its source, because there are "
            "several. Give the column another name in the file."
        )
    if file.format in ("json", "jsonl"):
        return
    first, expected = seen.setdefault(file.source, (file, columns))
    if set(columns) != set(expected):
        missing, added = sorted(set(expected) - set(columns)), sorted(set(columns) - set(expected))
        parts_of_it = [f"lacks {', '.join(missing)}"] * bool(missing)
        parts_of_it += [f"has {', '.join(added)} besides"] * bool(added)
        raise DataError(
            f"{file.place}: other columns than {first.place} ({', '.join(expected)}): it {' and '.join(parts_of_it)}. "
            "Give the files the same columns, or make them two sources."
        )
