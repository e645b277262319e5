"""Rows of parts, by their number in turn."""

import numpy as np
import pyarrow as pa
import pytest

from table_parts import parts_of
from tunesmith.data.selection import RowReader, Selection
from tunesmith.store.chunks import ChunkCache

NUM_ROWS = 1000


@pytest.fixture
def table():
    return pa.table({"text": [f"{number} " + "x" * 2000 for number in range(NUM_ROWS)], "n": [*range(NUM_ROWS)]})


@pytest.fixture
def reader(table, tmp_path):
    cache = ChunkCache(tmp_path / "chunks")
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    selection = Selection(parts_of(table, cache, 100, 300, 301, 700), order=order)
    return RowReader(selection, selection.types, cache)


def test_rows_in_another_order_are_found_in_all_parts(reader, table):
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    taken = [reader.take(np.arange(start, min(start + 70, NUM_ROWS))) for start in range(0, NUM_ROWS, 70)]
    assert pa.concat_tables(taken).equals(table.take(pa.array(order)))


def test_rows_in_another_order_cost_their_own_bytes_and_not_those_of_all_rows(reader, table, count_allocated):
    reader.take(np.arange(10))
    assert count_allocated(lambda: reader.take(np.arange(10, 20))) < table.nbytes / 10
