"""Reads parquet files."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.blocks import Block
from tunesmith.data.columns import from_arrow
from tunesmith.data.files import SourceFile, read_bytes
from tunesmith.errors import DataError


def read_parquet(file: SourceFile) -> Iterator[Block]:
    """The rows of a parquet file, in one block.

    Raises:
        DataError: The file is damaged, is no parquet file, or names a column twice.
    """
    try:
        table = _open_table(file)
        names = table.column_names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{file.path}: column {twice!r} is there twice. Give each column a name of its own.")
        columns = {name: from_arrow(table[name]) for name in names}
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"{file.path}: not a readable parquet file ({reason}). It is damaged, truncated or of another format: "
            "write it again, or set data.format."
        ) from None
    yield Block(columns, range(1, table.num_rows + 1))


def _open_table(file: SourceFile) -> pa.Table:
    if file.path.suffix.lower() == ".gz":
        return pq.ParquetFile(pa.BufferReader(read_bytes(file))).read()
    with pq.ParquetFile(file.path) as parquet:
        return parquet.read()
