from collections import Counter
from itertools import count

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import chunked, difference
from tunesmith.data.chunked import compose
from tunesmith.data.difference import Side, compare
from tunesmith.data.rows import hash_rows
from tunesmith.data.verified import Verified
from tunesmith.errors import DataError
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import seal

_NUMBERS = count()
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", None])), max_size=40)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 8)
    monkeypatch.setattr(chunked, "LEAST_ROWS", 2)
    monkeypatch.setattr(chunked, "MOST_ROWS", 16)


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "chunks")


def side_of(table, cache):
    """A sealed folder with the rows of a table."""
    hashes = hash_rows(table, table.column_names, purpose="tunesmith row")
    rows = compose(hashes, table.schema, lambda places: table.take(pa.array(places)), cache)
    folder = cache.root.parent / f"snapshot-{next(_NUMBERS)}"
    folder.mkdir()
    rows.write(folder, cache)
    seal(folder, {"facts": {}})
    files = Verified(Ref(kind="snapshot", key="k", uri=str(folder)))
    return Side(files.rows(), files)


def table_of(rows):
    labels, texts = [row[1] for row in rows], [row[0] for row in rows]
    return pa.table({"label": pa.array(labels, pa.string()), "text": pa.array(texts, pa.string())})


def differ(before, now, cache, key=("text",), limit=1000):
    return compare(side_of(table_of(before), cache), side_of(table_of(now), cache), key, cache, limit=limit)


def counts_of(found):
    return {"came": found.num_came, "went": found.num_went, "changed": found.num_changed, "same": found.num_same}


def test_rows_come_go_and_change(cache):
    before = [("a", "x"), ("b", "x"), ("c", "x")]
    now = [("d", "x"), ("a", "x"), ("b", "y")]
    found = differ(before, now, cache)
    assert counts_of(found) == {"came": 1, "went": 1, "changed": 1, "same": 1}
    assert (found.came.tolist(), found.went.tolist(), found.changed.tolist()) == ([0], [2], [[1, 2]])


def test_equal_rows_count_as_often_as_they_occur(cache):
    found = differ([("a", "x")] * 5, [("a", "x")] * 2 + [("a", "y")] * 1, cache)
    assert counts_of(found) == {"came": 0, "went": 2, "changed": 1, "same": 2}


def test_the_same_rows_in_another_order_are_said_to_be(cache):
    rows = [(letter, "x") for letter in "abcdefgh"]
    found = differ(rows, rows[::-1], cache)
    assert counts_of(found) == {"came": 0, "went": 0, "changed": 0, "same": 8}
    assert found.is_reordered
    assert not differ(rows, rows, cache).is_reordered


def test_a_new_column_changes_no_row(cache):
    before, now = table_of([("a", "x"), ("b", "x")]), table_of([("a", "x"), ("b", "y")])
    now = now.append_column("score", pa.array([1, 2]))
    found = compare(side_of(before, cache), side_of(now, cache), ["text"], cache, limit=9)
    assert counts_of(found) == {"came": 0, "went": 0, "changed": 1, "same": 1}
    assert (found.columns.common, found.columns.came) == (("label", "text"), ("score",))


def test_a_number_that_became_text_is_the_same_value(cache):
    before, now = pa.table({"n": pa.array([1, 2])}), pa.table({"n": pa.array(["1", "2"])})
    found = compare(side_of(before, cache), side_of(now, cache), ["n"], cache, limit=9)
    assert counts_of(found)["same"] == 2
    assert found.columns.retyped == {"n": ("int64", "string")}


def test_chunks_that_both_have_are_not_read(cache, monkeypatch):
    rows = [(f"row {number}", "x") for number in range(400)]
    before, now = side_of(table_of(rows), cache), side_of(table_of([*rows, ("new", "x")]), cache)
    known = {chunk.path.name for chunk in before.rows.chunks} & {chunk.path.name for chunk in now.rows.chunks}
    opened = []
    monkeypatch.setattr(Verified, "open", lambda self, name: opened.append(name) or self._ref.folder / name)
    assert compare(before, now, ["text"], cache, limit=3).came.tolist() == [400]
    assert len(known) > 10
    assert not known & set(opened)


@pytest.mark.parametrize("bucket_rows", [7, 1000])
def test_places_are_told_wherever_in_the_snapshot_they_are(cache, monkeypatch, bucket_rows):
    monkeypatch.setattr(difference, "BUCKET_ROWS", bucket_rows)
    before = [(f"row {number}", "x") for number in range(200)]
    now = [(text, "y" if number == 170 else "x") for number, (text, _) in enumerate(before) if number not in (40, 120)]
    found = differ(before, now, cache)
    assert (found.went.tolist(), found.came.tolist(), found.changed.tolist()) == ([40, 120], [], [[170, 168]])


def test_a_damaged_chunk_is_refused_before_anything_is_kept_of_it(cache):
    before, now = side_of(table_of([("a", "x")]), cache), side_of(table_of([("b", "x")]), cache)
    path = now.rows.chunks[0].path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match="is damaged"):
        compare(before, now, ["text"], cache, limit=3)


@given(ROWS, ROWS, st.sampled_from([1, 3, 1000]))
@settings(deadline=None, max_examples=25)
def test_counts_are_those_of_multisets_however_few_rows_are_compared_at_a_time(
    tmp_path_factory, before, now, bucket_rows
):
    cache = ChunkCache(tmp_path_factory.mktemp("rows") / "chunks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difference, "BUCKET_ROWS", bucket_rows)
        found = differ(before, now, cache)
    went, came = Counter(before) - Counter(now), Counter(now) - Counter(before)
    keys_gone, keys_new = Counter(row[0] for row in went.elements()), Counter(row[0] for row in came.elements())
    num_changed = (keys_gone & keys_new).total()
    assert counts_of(found) == {
        "came": came.total() - num_changed,
        "went": went.total() - num_changed,
        "changed": num_changed,
        "same": (Counter(before) & Counter(now)).total(),
    }
    listed = (
        [*found.went.tolist(), *found.changed[:, 0].tolist()],
        [*found.came.tolist(), *found.changed[:, 1].tolist()],
    )
    assert Counter(before[place] for place in listed[0]) == went
    assert Counter(now[place] for place in listed[1]) == came
    assert all(before[old][0] == now[new][0] for old, new in found.changed.tolist())


@given(ROWS, ROWS)
@settings(deadline=None, max_examples=10)
def test_of_each_sort_the_first_are_listed(tmp_path_factory, before, now):
    cache = ChunkCache(tmp_path_factory.mktemp("rows") / "chunks")
    found = differ(before, now, cache, limit=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difference, "BUCKET_ROWS", 2)
        alike = differ(before, now, cache, limit=2)
    assert len(found.came) == min(2, found.num_came)
    for name in ("came", "went", "changed"):
        assert getattr(found, name).tolist() == getattr(alike, name).tolist()
