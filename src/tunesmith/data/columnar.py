"""Reads parquet and arrow files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.blocks import BLOCK_ROWS, MAX_COLUMNS, Block, refuse_columns
from tunesmith.data.columns import from_arrow
from tunesmith.data.contents import open_seekable
from tunesmith.data.files import SourceFile
from tunesmith.errors import DataError

FILE_MAGIC = b"ARROW1"
OLD_FEATHER_MAGIC = b"FEA1"


def read_columnar(file: SourceFile) -> Iterator[Block]:
    """The rows of a parquet or arrow file, in blocks of BLOCK_ROWS; the last one may have fewer.

    Raises:
        DataError: The file is damaged, of another format, or names a column twice.
    """
    with open_seekable(file) as stream:
        try:
            schema, batches = (_open_parquet if file.format == "parquet" else _open_arrow)(stream)
            _check_names(schema.names, file)
            first = 1
            for table in _regroup(schema, batches):
                columns = {name: from_arrow(table[name]) for name in table.column_names}
                yield Block(columns, range(first, first + table.num_rows))
                first += table.num_rows
        except (pa.ArrowException, OSError) as error:
            reason = (str(error).splitlines() or ["it ends early"])[0].rstrip(".")
            raise DataError(
                f"{file.place}: not a readable {file.format} file ({reason}). It is damaged, truncated or of another "
                "format: write it again, or set the source's format."
            ) from None


def _open_parquet(stream: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    parquet = pq.ParquetFile(stream)
    return parquet.schema_arrow, parquet.iter_batches(batch_size=BLOCK_ROWS)


def _open_arrow(stream: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The two layouts of IPC: the file that Feather and `datasets` write, and the stream."""
    magic = stream.read(len(FILE_MAGIC))
    stream.seek(0)
    if magic.startswith(OLD_FEATHER_MAGIC):
        raise pa.ArrowInvalid("Feather version 1, which is no longer written; read it and write it as version 2")
    if magic == FILE_MAGIC:
        reader = pa.ipc.open_file(stream)
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    reader = pa.ipc.open_stream(stream)
    return reader.schema, iter(reader)


def _regroup(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of batches of any size as tables of BLOCK_ROWS rows: rows that are appended leave all but one as is."""
    waiting = schema.empty_table()
    for batch in batches:
        # Damaged offsets would be read beyond their buffers.
        batch.validate(full=True)
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while waiting.num_rows >= BLOCK_ROWS:
            yield waiting.slice(0, BLOCK_ROWS)
            waiting = waiting.slice(BLOCK_ROWS)
    if waiting.num_rows:
        yield waiting


def _check_names(names: Sequence[str], file: SourceFile) -> None:
    if len(names) > MAX_COLUMNS:
        refuse_columns(file.place, len(names))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file.place}: column {twice!r} is there twice. Give each column a name of its own.")
