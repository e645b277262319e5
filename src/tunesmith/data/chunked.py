"""Rows in chunks, cut where the rows themselves say so: what is appended, changed or deleted touches its chunks alone.

A chunk ends behind a row whose hash says so: rarely before it has CHUNK_ROWS rows, and soon behind. So the same rows
make the same chunks whatever file they came from, and far from a change the cuts are where they were.

Source: Xia et al. 2016, FastCDC: normalized chunking.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tunesmith.data.hashes import Hashed, Hashing, ensure_hashes
from tunesmith.data.rows import HashArray, IntArray, compute_digest, take_across, write_rows
from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.keys import KEY_LENGTH, compute_key
from tunesmith.store.ref import Facts

CHUNK_ROWS = 4096
"""Rows of most chunks, or somewhat more: a changed row costs as many, and a million rows are 200 files."""
LEAST_ROWS, MOST_ROWS = 2048, 8192
"""No chunk but the last has fewer rows, and none has more: equal rows have equal hashes."""
NORMALIZATION = 4
"""How many times rarer than one in CHUNK_ROWS the rows are that end a smaller chunk, and how many times more frequent
those that end a larger one."""

KIND = "rows"
SUFFIX = ".parquet"

Gather = Callable[[IntArray], pa.Table]
"""Consecutive positions -> the rows there."""


@dataclass(frozen=True)
class RowsChunk:
    """Some consecutive rows.

    Attributes:
        key: The hash of the rows and their columns.
        num_rows: How many there are.
        path: Their parquet file.
    """

    key: str
    num_rows: int
    path: Path


@dataclass(frozen=True)
class ChunkedRows:
    """Rows on the disk.

    Attributes:
        schema: Their columns.
        digest: The sha256 of all rows, in their order.
        chunks: The rows, some thousand at a time.
    """

    schema: pa.Schema
    digest: str
    chunks: tuple[RowsChunk, ...]

    @classmethod
    def open(cls, folder: Path, name: str = KIND) -> ChunkedRows:
        """The rows that `write` put in a folder under this name."""
        index = json.loads((folder / f"{name}.json").read_bytes())
        chunks = tuple(
            RowsChunk(item["key"], item["num_rows"], folder / _file_name(item["key"])) for item in index["chunks"]
        )
        schema = pa.schema([(column, pa.type_for_alias(kind)) for column, kind in index["columns"]])
        return cls(schema, index["digest"], chunks)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(chunk.num_rows for chunk in self.chunks)

    @property
    def key(self) -> str:
        """The digest, as long as a key is."""
        return self.digest[:KEY_LENGTH]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows, a table a chunk; all columns, or some."""
        for chunk in self.chunks:
            yield read_chunk(chunk.path, columns)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in memory; all columns, or some."""
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        return pa.concat_tables([schema.empty_table(), *self.tables(columns)])

    def take(self, positions: IntArray) -> pa.Table:
        """The rows at some positions, in their order; a chunk is read once."""
        sizes = (chunk.num_rows for chunk in self.chunks)
        return take_across(positions, sizes, lambda index: read_chunk(self.chunks[index].path), self.schema)

    def hash(
        self, columns: Sequence[str], cache: ChunkCache, *, purpose: str, seed: int = 0, num_bytes: int = 16
    ) -> HashArray:
        """A hash of each row's values in some columns, as `hash_rows` gives it."""
        parts = [Hashed({"chunk": chunk.key}, partial(read_chunk, chunk.path, columns)) for chunk in self.chunks]
        return ensure_hashes(parts, Hashing(tuple(columns), purpose, seed, num_bytes), cache)

    def distinct(self, column: str, cache: ChunkCache) -> pa.ChunkedArray:
        """The values that a column of text, numbers or true/false has in each chunk, each once a chunk."""
        found = []
        for chunk in self.chunks:

            def write(path: Path, chunk: RowsChunk = chunk) -> Facts:
                path.touch()
                return {"values": pc.unique(read_chunk(chunk.path, [column])[column]).to_pylist()}

            key = compute_key({"chunk": chunk.key, "column": column})
            kept = cache.find("distinct", key) or cache.put("distinct", key, ".txt", write)
            found.append(pa.array(kept.facts["values"], self.schema.field(column).type))
        return pa.chunked_array(found, self.schema.field(column).type)

    def write(self, folder: Path, cache: ChunkCache, name: str = KIND) -> None:
        """Put the rows in a folder, by links to the chunks in the cache that `compose` found or made."""
        for chunk in {chunk.key: chunk for chunk in self.chunks}.values():
            target = folder / _file_name(chunk.key)
            if not target.exists():
                cache.link(chunk.path, target)
        index = {
            "digest": self.digest,
            "num_rows": self.num_rows,
            "columns": [[field.name, str(field.type)] for field in self.schema],
            "chunks": [{"key": chunk.key, "num_rows": chunk.num_rows} for chunk in self.chunks],
        }
        (folder / f"{name}.json").write_text(json.dumps(index), encoding="utf-8")


def compose(hashes: HashArray, schema: pa.Schema, gather: Gather, cache: ChunkCache) -> ChunkedRows:
    """Cut rows in chunks, and write those that the cache has not.

    Args:
        hashes: A hash of every row, in their order; equal rows have equal ones.
        schema: The columns.
        gather: Fetches rows by their position in `hashes`.
        cache: Where the chunks are kept.
    """
    chunks = []
    for start, end in pairwise(find_cuts(hashes)):
        key = compute_digest(schema, hashes[start:end])[:KEY_LENGTH]
        cached = _ensure(cache, key, np.arange(start, end), gather)
        chunks.append(RowsChunk(key, end - start, cached.path))
    return ChunkedRows(schema, compute_digest(schema, hashes), tuple(chunks))


def find_cuts(hashes: HashArray) -> list[int]:
    """Where chunks begin, and the end: [0, ..., num_rows]."""
    num_rows = len(hashes)
    late = np.flatnonzero(hashes[:, 0] % (CHUNK_ROWS // NORMALIZATION) == 0) + 1
    early = late[hashes[late - 1, 0] % (CHUNK_ROWS * NORMALIZATION) == 0]
    bounds = [0]
    while bounds[-1] < num_rows:
        start = bounds[-1]
        end = _find_first(early, start + LEAST_ROWS, num_rows)
        if end >= start + CHUNK_ROWS:
            end = _find_first(late, start + CHUNK_ROWS, num_rows)
        bounds.append(min(end, start + MOST_ROWS))
    return bounds


def _find_first(ends: IntArray, least: int, otherwise: int) -> int:
    place = np.searchsorted(ends, least)
    return int(ends[place]) if place < len(ends) else otherwise


def read_chunk(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a chunk's file."""
    # Such a small file is read in half the time without the threads that would read ahead.
    with pq.ParquetFile(path, pre_buffer=False) as parquet:
        return parquet.read(columns=None if columns is None else list(columns), use_threads=False)


def _ensure(cache: ChunkCache, key: str, positions: IntArray, gather: Gather) -> Chunk:
    def write(path: Path) -> None:
        write_rows(gather(positions), path)

    return cache.ensure(KIND, key, SUFFIX, write)


def _file_name(key: str) -> str:
    return f"{KIND}-{key}{SUFFIX}"
