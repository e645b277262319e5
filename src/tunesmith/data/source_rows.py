"""The rows of files to predict for: looked through once, and then read again, some at a time, with settled columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tunesmith.data.blocks import Block
from tunesmith.data.column_types import ColumnFacts, convert, describe_column
from tunesmith.data.files import SourceFile
from tunesmith.data.nearest import find_nearest
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.readers import read_file
from tunesmith.data.values import to_texts
from tunesmith.errors import DataError

OPTIONS = ReaderOptions()


@dataclass(frozen=True)
class InputRows:
    """Some rows of a file.

    Attributes:
        table: All their columns.
        inputs: Those that the model reads, as text.
        places: Where each row is in the file, such as `reviews.csv:17`.
    """

    table: pa.Table
    inputs: pa.Table
    places: Sequence[str]


@dataclass(frozen=True)
class SourceRows:
    """The rows of one or several files.

    Attributes:
        files: The files.
        types: The type of each column, over all rows; what a file has as text stays as it is written.
        input_columns: The columns that the model reads.
        num_rows: How many rows there are.
    """

    files: Sequence[SourceFile]
    types: Mapping[str, pa.DataType]
    input_columns: Sequence[str]
    num_rows: int

    def read_shards(self, shard_rows: int, wanted: Collection[int]) -> Iterator[tuple[int, InputRows]]:
        """Runs of rows, each with its number; those that are not wanted are passed over.

        Args:
            shard_rows: Rows of each run but the last.
            wanted: Numbers of runs, from 0.
        """
        first, pieces = 0, list[InputRows]()
        for file in self.files:
            for block in read_file(file, OPTIONS):
                for shard, start, end in _cut(first, len(block.numbers), shard_rows):
                    if shard in wanted:
                        pieces.append(self._read(block, file, start, end))
                    if pieces and (first + end) % shard_rows == 0:
                        yield shard, _join(pieces)
                        pieces = []
                first += len(block.numbers)
        if pieces:
            yield (first - 1) // shard_rows, _join(pieces)

    def _read(self, block: Block, file: SourceFile, start: int, end: int) -> InputRows:
        def cut(column: pa.ChunkedArray) -> pa.ChunkedArray:
            return column.slice(start, end - start)

        return InputRows(
            pa.table({name: cut(_find_column(block, name, kind)) for name, kind in self.types.items()}),
            pa.table({name: cut(to_texts(_find_column(block, name, None)).texts) for name in self.input_columns}),
            [f"{file.prefix}{number}" for number in block.numbers[start:end]],
        )


def _cut(first: int, num_rows: int, shard_rows: int) -> Iterator[tuple[int, int, int]]:
    """The shards that a block's rows belong to: the number of each, and from where to where it reaches in the block."""
    start = 0
    while start < num_rows:
        shard = (first + start) // shard_rows
        end = min(num_rows, (shard + 1) * shard_rows - first)
        yield shard, start, end
        start = end


def _join(pieces: Sequence[InputRows]) -> InputRows:
    return InputRows(
        pa.concat_tables([piece.table for piece in pieces]),
        pa.concat_tables([piece.inputs for piece in pieces]),
        [place for piece in pieces for place in piece.places],
    )


def look_through(files: Sequence[SourceFile], input_columns: Sequence[str]) -> SourceRows:
    """Read files once, to know their columns, and that every row can be predicted for.

    Args:
        files: At least one, all of one format.
        input_columns: The columns that the model reads.

    Raises:
        DataError: One cannot be read, lacks a column that the model reads, or a row has no text in one.
    """
    facts: dict[str, ColumnFacts] = {}
    num_rows = 0
    for file in files:
        texts = {name: _Missing() for name in input_columns}
        present = dict[str, None]()
        num_before = num_rows
        for block in read_file(file, OPTIONS):
            for name, column in block.columns.items():
                present[name] = None
                found = describe_column(column)
                facts[name] = facts[name].merge(found) if name in facts else found
            for name, missing in texts.items():
                missing.look_at(block, name, file)
            num_rows += len(block.numbers)
        for name, missing in texts.items():
            missing.refuse(name, num_rows - num_before, file.place, [*present])
    return SourceRows(files, {name: found.keep() for name, found in facts.items()}, input_columns, num_rows)


class _Missing:
    """What keeps a column from being read by the model."""

    def __init__(self) -> None:
        self.first_null = self.first_other = ""
        self.num_nulls = 0

    def look_at(self, block: Block, name: str, file: SourceFile) -> None:
        column = _find_column(block, name, None)
        found = to_texts(column)
        is_null = column.is_null().to_numpy()
        if is_null.any():
            self.first_null = self.first_null or f"{file.prefix}{block.numbers[int(np.argmax(is_null))]}"
            self.num_nulls += int(is_null.sum())
        if found.is_other.any():
            self.first_other = self.first_other or f"{file.prefix}{block.numbers[int(np.argmax(found.is_other))]}"

    def refuse(self, name: str, num_rows: int, path: str, present: Sequence[str]) -> None:
        if name not in present:
            raise DataError(
                f"{path}: there is no column {name!r}, which the model reads; columns present: "
                f"{', '.join(map(repr, present))}.{find_nearest(name, present)} Rename the column in the file."
            )
        if self.num_nulls:
            raise DataError(
                f"{self.first_null}: no value in column {name!r}, which the model reads ({self.num_nulls} of "
                f"{num_rows} rows have none; this is the first). Fill it in, or leave the rows out."
            )
        if self.first_other:
            raise DataError(
                f"{self.first_other}: column {name!r}, which the model reads, must hold text; it holds other values"
            )


def _find_column(block: Block, name: str, kind: pa.DataType | None) -> pa.ChunkedArray:
    column = block.columns.get(name)
    if column is None:
        column = pa.nulls(len(block.numbers))
    return _as_chunked(column if kind is None else convert(column, kind))


def _as_chunked(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
