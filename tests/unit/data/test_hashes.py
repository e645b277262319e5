import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data import hashes
from tunesmith.data.hashes import Hashed, Hashing, ensure_hashes
from tunesmith.data.rows import hash_rows
from tunesmith.store.chunks import ChunkCache

HASHING = Hashing(("text",), "tunesmith row")


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(hashes, "GROUP_PARTS", 4)


class Parts:
    """Parts of three rows each, which remember which of them were loaded."""

    def __init__(self):
        self.loaded = []

    def __call__(self, names):
        return [Hashed({"part": name}, lambda name=name: self.load(name)) for name in names]

    def load(self, name):
        self.loaded.append(name)
        return table_of([name])


def table_of(names):
    return pa.table({"text": [f"{name} {number}" for name in names for number in range(3)]})


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "chunks")


@pytest.fixture
def parts():
    return Parts()


def count_files(cache):
    return len([*cache.root.glob("hashes/*/*.u64")])


@pytest.mark.parametrize("number", [0, 1, 2, 7, 60])
def test_hashes_of_parts_are_those_of_all_rows_together(cache, parts, number):
    names = range(number)
    found = ensure_hashes(parts(names), HASHING, cache)
    assert np.array_equal(found, hash_rows(table_of(names), ["text"], purpose="tunesmith row"))
    assert parts.loaded == [*names]
    assert np.array_equal(ensure_hashes(parts(names), HASHING, cache), found)
    assert parts.loaded == [*names]


@pytest.mark.parametrize(
    ("change", "loaded"),
    [
        (lambda names: [*names, 60], [60]),
        (lambda names: [*names[:20], 60, *names[20:]], [60]),
        (lambda names: names[:20] + names[21:], []),
        (lambda names: names[::-1], []),
    ],
)
def test_what_comes_goes_or_moves_is_all_that_is_hashed(cache, parts, change, loaded):
    names = [*range(60)]
    ensure_hashes(parts(names), HASHING, cache)
    parts.loaded.clear()
    changed = change(names)
    found = ensure_hashes(parts(changed), HASHING, cache)
    assert np.array_equal(found, hash_rows(table_of(changed), ["text"], purpose="tunesmith row"))
    assert parts.loaded == loaded


def test_known_hashes_are_read_from_few_files_and_an_append_writes_few(cache, parts, monkeypatch):
    ensure_hashes(parts(range(60)), HASHING, cache)
    opened, before = [], count_files(cache)
    monkeypatch.setattr(ChunkCache, "open", lambda cache, chunk: opened.append(chunk.key) or chunk.path)
    ensure_hashes(parts(range(60)), HASHING, cache)
    assert len(opened) < 30
    ensure_hashes(parts(range(61)), HASHING, cache)
    assert count_files(cache) <= before + 2


def test_damaged_files_are_made_again_from_what_is_left(cache, parts):
    whole = ensure_hashes(parts(range(60)), HASHING, cache)
    parts.loaded.clear()
    for path in cache.root.glob("hashes/*/*.u64"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert np.array_equal(ensure_hashes(parts(range(60)), HASHING, cache), whole)
    assert sorted(parts.loaded) == [*range(60)]


@pytest.mark.parametrize(
    "other",
    [
        Hashing(("text",), "tunesmith split"),
        Hashing(("text",), "tunesmith row", seed=1),
        Hashing(("text",), "tunesmith row", num_bytes=8),
    ],
)
def test_other_hashings_are_kept_apart(cache, parts, other):
    ensure_hashes(parts(range(9)), HASHING, cache)
    table = table_of(range(9))
    wanted = hash_rows(table, ["text"], purpose=other.purpose, seed=other.seed, num_bytes=other.num_bytes)
    assert np.array_equal(ensure_hashes(parts(range(9)), other, cache), wanted)
