import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import chunked
from tunesmith.data.chunked import ChunkedRows, compose, find_cuts
from tunesmith.data.rows import hash_rows
from tunesmith.store.chunks import ChunkCache


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 16)
    monkeypatch.setattr(chunked, "LEAST_ROWS", 4)
    monkeypatch.setattr(chunked, "MOST_ROWS", 64)


def make_table(numbers):
    return pa.table({"label": [number % 3 for number in numbers], "text": [f"row {number}" for number in numbers]})


def put_together(table, cache, asked=None):
    hashes = hash_rows(table, table.column_names, purpose="tunesmith row")

    def gather(positions):
        if asked is not None:
            asked.extend(positions.tolist())
        return table.take(pa.array(positions))

    return compose(hashes, table.schema, gather, cache)


def test_rows_come_back_in_their_order_and_under_their_digest(tmp_path):
    cache, table = ChunkCache(tmp_path / "chunks"), make_table(range(500))
    rows = put_together(table, cache)
    (tmp_path / "folder").mkdir()
    rows.write(tmp_path / "folder", cache, "train")
    again = ChunkedRows.open(tmp_path / "folder", "train")
    assert again.read().equals(table)
    assert again.read(["text"]).column_names == ["text"]
    assert (again.digest, again.num_rows, again.schema) == (rows.digest, 500, table.schema)
    assert again.digest.startswith(again.key)


def test_no_rows_are_a_table_without_rows(tmp_path):
    rows = put_together(make_table([]), ChunkCache(tmp_path / "chunks"))
    assert (rows.num_rows, rows.read().num_rows, rows.chunks) == (0, 0, ())


@given(st.lists(st.integers(0, 2**64 - 1), max_size=300), st.integers(0, 300))
@settings(deadline=None)
def test_cuts_are_neither_too_close_nor_too_far_and_equal_rows_are_cut_all_the_same(firsts, repeats):
    hashes = np.array([(first, 0) for first in [*firsts, *[16] * repeats]], dtype=np.uint64).reshape(-1, 2)
    bounds = find_cuts(hashes)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, len(hashes))
    assert all(4 <= size <= 64 for size in sizes[:-1])
    assert all(0 < size <= 64 for size in sizes[-1:])


@given(st.integers(0, 999), st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_rows_put_in_anywhere_touch_the_chunks_around_them_alone(tmp_path_factory, place, number):
    folder = tmp_path_factory.mktemp("rows")
    cache, asked = ChunkCache(folder / "chunks"), []
    put_together(make_table(range(1000)), cache)
    more = make_table([*range(place), *range(5000, 5000 + number), *range(place, 1000)])
    rows = put_together(more, cache, asked)
    assert len(asked) <= 4 * 64
    assert rows.read().equals(more)
    full = put_together(more, ChunkCache(folder / "other" / "chunks"))
    assert [chunk.path.read_bytes() for chunk in rows.chunks] == [chunk.path.read_bytes() for chunk in full.chunks]
    assert rows.digest == full.digest


@given(st.lists(st.integers(0, 199), max_size=50))
@settings(deadline=None, max_examples=25)
def test_rows_are_taken_from_any_places_in_any_order(tmp_path_factory, places):
    table = make_table(range(200))
    rows = put_together(table, ChunkCache(tmp_path_factory.mktemp("rows") / "chunks"))
    assert rows.take(np.array(places, dtype=np.int64)).equals(table.take(pa.array(places, pa.int64())))


def test_a_damaged_chunk_is_made_again(tmp_path):
    cache, table = ChunkCache(tmp_path / "chunks"), make_table(range(300))
    first = put_together(table, cache)
    first.chunks[2].path.write_bytes(b"PAR1 damaged")
    asked = []
    assert put_together(table, cache, asked).read().equals(table)
    assert len(asked) == first.chunks[2].num_rows


def test_hashes_of_rows_are_kept(tmp_path, monkeypatch):
    cache, table = ChunkCache(tmp_path / "chunks"), make_table(range(100))
    rows = put_together(table, cache)
    hashes = rows.hash(["text"], cache, purpose="tunesmith split", seed=3)
    assert np.array_equal(hashes, hash_rows(table, ["text"], purpose="tunesmith split", seed=3))
    monkeypatch.setattr(chunked, "read_chunk", lambda *_: pytest.fail("the rows are read again"))
    assert np.array_equal(rows.hash(["text"], cache, purpose="tunesmith split", seed=3), hashes)


def test_most_chunks_are_of_like_size(tmp_path):
    rows = put_together(make_table(range(5000)), ChunkCache(tmp_path / "chunks"))
    sizes = np.array([chunk.num_rows for chunk in rows.chunks])
    assert np.mean((sizes >= 16) & (sizes <= 32)) > 0.8


@pytest.mark.parametrize("values", [["b", "a", "b"], [3, 1, 3], [0.5, 2.0, 0.5], [True, False, True], ["x", None, "x"]])
def test_distinct_values_are_found_once_a_chunk_and_kept(tmp_path, monkeypatch, values):
    cache = ChunkCache(tmp_path / "chunks")
    table = pa.table({"label": values * 50, "text": [f"row {number}" for number in range(150)]})
    rows = put_together(table, cache)
    found = rows.distinct("label", cache)
    assert found.type == table["label"].type
    assert set(found.to_pylist()) == set(values)
    assert len(found) == sum(len(set(part["label"].to_pylist())) for part in rows.tables())
    monkeypatch.setattr(chunked, "read_chunk", lambda *_: pytest.fail("the rows are read again"))
    assert rows.distinct("label", cache) == found
