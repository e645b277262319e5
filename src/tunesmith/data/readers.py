"""Reads all files of a recipe into one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tunesmith.data.blocks import Block
from tunesmith.data.columnar import read_parquet
from tunesmith.data.columns import combine, settle
from tunesmith.data.delimited import read_delimited
from tunesmith.data.files import SourceFile
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.plain_text import read_text
from tunesmith.data.records import read_json, read_jsonl
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        rows: All rows, in the order of the files.
        num_blank: Blank lines, which are none.
        rows_of_file: Rows of each file, without the blank lines.
    """

    rows: Rows
    num_blank: int
    rows_of_file: tuple[int, ...]


def read_files(files: Sequence[SourceFile], config: DataConfig) -> Reading:
    """Read all files into one table.

    Raises:
        DataError: A file or a row cannot be used, or the files have different columns.
    """
    blocks = [[*_read_file(file, config)] for file in files]
    for file, found in zip(files, blocks, strict=True):
        if not any(block.numbers for block in found):
            below = " below its header" if file.format in ("csv", "tsv") and config.columns is None else ""
            raise DataError(f"{file.path}: the file has no rows{below}. Write some, or take it out of data.files.")
    _check_same_columns(files, blocks)
    every = [block for found in blocks for block in found if block.numbers]
    rows_of_file = tuple(sum(len(block.numbers) for block in found) for found in blocks)
    origins = Origins(
        prefixes=tuple(file.label + (" row " if file.format in ("json", "parquet") else ":") for file in files),
        files=np.repeat(np.arange(len(files), dtype=np.int32), rows_of_file),
        numbers=np.concatenate([np.asarray(block.numbers, dtype=np.int64) for block in every]),
    )
    rows = Rows(_join_blocks(every), origins)
    return Reading(rows, sum(block.num_blank for found in blocks for block in found), rows_of_file)


def _read_file(file: SourceFile, config: DataConfig) -> Iterator[Block]:
    match file.format:
        case "csv" | "tsv":
            return read_delimited(file, config)
        case "json":
            return read_json(file, config)
        case "jsonl":
            return read_jsonl(file, config)
        case "parquet":
            return read_parquet(file)
        case "text":
            return read_text(file, config)


def _check_same_columns(files: Sequence[SourceFile], blocks: Sequence[Sequence[Block]]) -> None:
    if files[0].format in ("json", "jsonl"):
        return  # a JSON row may leave a key out: it is null there
    first = blocks[0][0].columns
    for file, found in zip(files[1:], blocks[1:], strict=True):
        columns = found[0].columns
        if set(columns) != set(first):
            missing, added = sorted(set(first) - set(columns)), sorted(set(columns) - set(first))
            parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(added)} besides"] * bool(added)
            raise DataError(
                f"{file.path}: other columns than {files[0].path} ({', '.join(first)}): it {' and '.join(parts)}. "
                "Give the files the same columns, or take one out of data.files."
            )


def _join_blocks(blocks: Sequence[Block]) -> pa.Table:
    names = dict.fromkeys(name for block in blocks for name in block.columns)
    if not names:
        raise DataError('the rows of data.files have no keys at all. Write objects such as {"text": "..."}.')
    columns = {}
    for name in names:
        parts = [block.columns.get(name, pa.nulls(len(block.numbers))) for block in blocks]
        columns[name] = settle(combine(parts))
    return pa.table(columns)
