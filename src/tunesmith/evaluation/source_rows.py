"""The rows of a file to predict for: looked through once, and then read again, some at a time, with settled columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.data.blocks import Block
from tunesmith.data.column_types import ColumnFacts, convert, describe_column
from tunesmith.data.files import SourceFile, describe_file
from tunesmith.data.nearest import find_nearest
from tunesmith.data.reader_options import EXTENSIONS, ReaderOptions, find_format
from tunesmith.data.readers import read_file
from tunesmith.data.values import to_texts
from tunesmith.errors import CallError, DataError

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
    """The rows of a file.

    Attributes:
        file: The file.
        types: The type of each column, over all rows.
        input_columns: The columns that the model reads.
        num_rows: How many rows there are.
    """

    file: SourceFile
    types: Mapping[str, pa.DataType]
    input_columns: Sequence[str]
    num_rows: int

    def read(self, num_rows: int) -> Iterator[InputRows]:
        """All rows in their order, at most so many at a time."""
        for block in read_file(self.file, OPTIONS):
            whole = InputRows(
                pa.table({name: _find_column(block, name, kind) for name, kind in self.types.items()}),
                pa.table({name: to_texts(_as_chunked(block.columns[name])).texts for name in self.input_columns}),
                [f"{self.file.prefix}{number}" for number in block.numbers],
            )
            for start in range(0, len(block.numbers), num_rows):
                yield InputRows(
                    whole.table.slice(start, num_rows),
                    whole.inputs.slice(start, num_rows),
                    whole.places[start : start + num_rows],
                )


def look_through(path: Path, input_columns: Sequence[str]) -> SourceRows:
    """Read a file once, to know its columns, and that every row can be predicted for.

    Args:
        path: The file.
        input_columns: The columns that the model reads.

    Raises:
        CallError: Its name does not say its format.
        DataError: It cannot be read, lacks a column that the model reads, or a row has no text in one.
    """
    if find_format(path.name) is None:
        raise CallError(
            f"{path}: its name does not say its format; known are {', '.join(EXTENSIONS)}, also with .gz, .bz2 or .zst"
        )
    file = describe_file(path, OPTIONS)
    facts: dict[str, ColumnFacts] = {}
    texts = {name: _Missing() for name in input_columns}
    num_rows = 0
    for block in read_file(file, OPTIONS):
        for name, column in block.columns.items():
            found = describe_column(column)
            facts[name] = facts[name].merge(found) if name in facts else found
        for name, missing in texts.items():
            missing.look_at(block, name, file)
        num_rows += len(block.numbers)
    for name, missing in texts.items():
        missing.refuse(name, num_rows, path, [*facts])
    return SourceRows(file, {name: found.decide() for name, found in facts.items()}, input_columns, num_rows)


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

    def refuse(self, name: str, num_rows: int, path: Path, present: Sequence[str]) -> None:
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
