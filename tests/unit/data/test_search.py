import pyarrow as pa
import pytest

from tunesmith.data import chunked
from tunesmith.data.chunked import compose
from tunesmith.data.rows import hash_rows
from tunesmith.data.search import choose_columns, find_rows
from tunesmith.data.verified import Verified
from tunesmith.errors import CallError, DataError
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import seal

NUM_ROWS = 300


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 16)
    monkeypatch.setattr(chunked, "LEAST_ROWS", 4)
    monkeypatch.setattr(chunked, "MOST_ROWS", 64)
    numbers = range(NUM_ROWS)
    table = pa.table(
        {
            "a=b": [number % 2 == 0 for number in numbers],
            "label": ["pos" if number % 100 == 50 else None if number % 3 else "neg" for number in numbers],
            "n": pa.array(numbers),
            "score": [number / 2 for number in numbers],
        }
    )
    cache = ChunkCache(tmp_path / "chunks")
    hashes = hash_rows(table, table.column_names, purpose="tunesmith row")
    rows = compose(hashes, table.schema, lambda places: table.take(pa.array(places)), cache)
    (tmp_path / "folder").mkdir()
    rows.write(tmp_path / "folder", cache)
    seal(tmp_path / "folder", {"facts": {}})
    return Verified(Ref(kind="snapshot", key="k", uri=str(tmp_path / "folder")))


def look(files, *conditions, limit=3, columns=("n",)):
    found = find_rows(files.rows(), files, conditions, columns, limit=limit)
    return found.positions.tolist(), found.num_matching


def test_the_first_rows_are_found_in_the_first_chunk(files, monkeypatch):
    read = []
    genuine = Verified.read
    monkeypatch.setattr(
        Verified, "read", lambda self, chunk, columns: read.append(chunk) or genuine(self, chunk, columns)
    )
    assert look(files) == ([0, 1, 2], NUM_ROWS)
    assert len(read) == 1


@pytest.mark.parametrize(
    ("conditions", "positions"),
    [
        (["label=pos"], [50, 150, 250]),
        (["n=150"], [150]),
        (["score=75.0"], [150]),
        (["score=75"], [150]),
        (["a=b=true", "label=neg"], [0, 6, 12]),
        (["a=b=False", "n=4"], []),
        (["label=none of these"], []),
    ],
)
def test_rows_are_found_by_their_values(files, conditions, positions):
    assert look(files, *conditions)[0] == positions


def test_how_many_match_is_known_once_all_were_seen(files):
    assert look(files, "label=pos", limit=9) == ([50, 150, 250], 3)
    assert look(files, "label=neg", limit=3)[1] is None


def test_no_rows_may_be_asked_for(files):
    assert look(files, limit=0) == ([], NUM_ROWS)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("n=x", "'n' holds int64 values, and 'x' is none"),
        ("n=99999999999999999999", "is none"),
        ("a=b=maybe", "write true or false"),
        ("lable=pos", "Did you mean label"),
        ("label", "write column=value"),
    ],
)
def test_a_wrong_condition_is_refused_with_what_to_write(files, condition, words):
    with pytest.raises(CallError, match=words):
        look(files, condition)


def test_a_chunk_that_is_not_as_it_was_sealed_is_refused_when_it_is_read(files):
    last = files.rows().chunks[-1].path
    last.chmod(0o644)
    last.write_bytes(last.read_bytes()[:-1] + b"x")
    assert look(files)[0] == [0, 1, 2]
    with pytest.raises(DataError, match=r"rows-\w+\.parquet does not match its sha256.*tunesmith run"):
        look(files, "label=none")


def test_columns_are_chosen_by_name_and_a_comma_may_be_in_one():
    assert choose_columns(None, ["a", "b"]) == ["a", "b"]
    assert choose_columns("b, a", ["a", "b"]) == ["b", "a"]
    assert choose_columns("a,b", ["a,b"]) == ["a,b"]
    with pytest.raises(CallError, match=r"'labell'.*Did you mean label"):
        choose_columns("labell", ["label"])
