"""Small files, and what comes of reading them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.blocks import Block
from tunesmith.data.column_types import combine
from tunesmith.data.files import SourceFile, find_local_files, tell_apart
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.readers import read_file
from tunesmith.data.sources import DataConfig, FilesSource

POOL = pa.proxy_memory_pool(pa.default_memory_pool())
"""What is allocated in it may outlive a test."""


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., FilesSource]:
    """The only source of a recipe in `tmp_path`."""

    def build(*files: str, **options: Any) -> FilesSource:
        section = json.dumps({"sources": [{"files": files, **options}]})
        [found] = DataConfig.model_validate_json(section, context={"folder": tmp_path}).sources
        assert isinstance(found, FilesSource)
        return found

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file of `tmp_path`."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def find(
    write: Callable[..., Path], source: Callable[..., FilesSource]
) -> Callable[..., tuple[SourceFile, FilesSource]]:
    """Writes one file, and finds it again."""

    def find_file(name: str, content: str | bytes, **options: Any) -> tuple[SourceFile, FilesSource]:
        write(name, content)
        found = source(name, **options)
        [file] = tell_apart(find_local_files(found.files, found))
        return file, found

    return find_file


@pytest.fixture
def read(find: Callable[..., tuple[SourceFile, FilesSource]]) -> Callable[..., Rows]:
    """Writes one file and reads it."""

    def read_all(name: str, content: str | bytes, **options: Any) -> Rows:
        file, found = find(name, content, **options)
        return join_blocks([*read_file(file, found)], file)

    return read_all


@pytest.fixture
def count_allocated() -> Callable[..., int]:
    """How many bytes pyarrow allocates for a call, whether it keeps them or not."""

    def count(call: Callable[[], object]) -> int:
        before = POOL.total_bytes_allocated()
        usual = pa.default_memory_pool()
        pa.set_memory_pool(POOL)
        try:
            call()
        finally:
            pa.set_memory_pool(usual)
        return int(POOL.total_bytes_allocated() - before)

    return count


def join_blocks(blocks: Sequence[Block], file: SourceFile) -> Rows:
    """All rows of a file, each column as the type of its values."""
    names = dict.fromkeys(name for block in blocks for name in block.columns)
    columns = {name: combine([_column(block, name) for block in blocks]) for name in names}
    numbers = np.concatenate([np.asarray(block.numbers, dtype=np.int64) for block in blocks])
    return Rows(pa.table(columns), Origins((file.prefix,), np.zeros(len(numbers), dtype=np.int32), numbers))


def _column(block: Block, name: str) -> pa.Array:
    return block.columns.get(name, pa.nulls(len(block.numbers)))
