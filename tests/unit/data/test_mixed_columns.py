"""Columns of several types, of which only one is left."""

import json
import sqlite3

import pytest

from streamed import Streamed
from tunesmith.data.fetch import fetch
from tunesmith.data.partition import SPLITS
from tunesmith.data.snapshot import take_snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.folder import FolderStore

STORIES = TextGeneration(kind="text-generation", text="text")


@pytest.fixture
def take(tmp_path):
    """The columns of a snapshot, which is one of a stream where that is asked."""

    def take_rows(section, *, streaming=False, source=None):
        section = {"sources": [source or {"files": ["*.jsonl"]}], **section}
        section |= {"streaming": {"sample_rows": 100}} if streaming else {}
        data = DataConfig.model_validate_json(json.dumps(section), context={"folder": tmp_path})
        store = FolderStore(tmp_path / "store")
        rows = take_snapshot(fetch(data, store), data, STORIES, store).rows.read()
        return {name: sorted(rows[name].to_pylist(), key=str) for name in rows.column_names}

    return take_rows


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def contract(**columns):
    return {"contract": {"columns": columns, "max_quarantined_fraction": 0.5}}


def filtered(**options):
    return {"transforms": [{"filter": {"column": "text", **options}}]}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("odd", [5, ["a"]])
@pytest.mark.parametrize(
    "section",
    [
        contract(text={"type": "text"}),
        filtered(matches="^[ab]$"),
        filtered(one_of=["a", "b"]),
        {"transforms": [{"map": {"label": ["strip"]}}, {"filter": {"column": "text", "matches": "^[ab]$"}}]},
    ],
)
def test_a_column_is_text_again_where_a_filter_or_the_contract_took_the_rest_out(
    tmp_path, take, section, odd, streaming
):
    write_rows(tmp_path / "a.jsonl", {"text": "a"}, {"text": odd}, {"text": "b"})
    write_rows(tmp_path / "b.jsonl", {"text": "a", "label": "x"})
    if not streaming:
        section = section | {"transforms": [*section.get("transforms", []), {"drop_duplicates": ["text", "label"]}]}
    assert take(section, streaming=streaming)["text"] == ["a", "a", "b"]


@pytest.mark.parametrize("streaming", [False, True])
def test_numbers_are_numbers_again_where_one_that_has_too_many_bits_is_gone(tmp_path, take, streaming):
    write_rows(tmp_path / "a.jsonl", {"text": "a", "n": 2**60}, {"text": "b", "n": 2**70})
    assert take(contract(n={"type": "whole"}), streaming=streaming) == {"n": [2**60], "text": ["a"]}


def test_a_stream_that_trains_is_without_the_rest_too(tmp_path):
    write_rows(tmp_path / "a.jsonl", {"text": "a"}, {"text": 5}, {"text": "b"})
    streamed = Streamed(tmp_path, **filtered(none_of=[5]))
    assert sorted(row["text"] for split in SPLITS for row in streamed.rows(split=split)) == ["a", "b"]


def test_a_column_of_a_database_may_mix_types_that_a_filter_takes_out(tmp_path, take):
    database = sqlite3.connect(tmp_path / "rows.db")
    database.execute("CREATE TABLE stories (text)")
    database.executemany("INSERT INTO stories VALUES (?)", [("a",), (5,), ("b",)])
    database.commit()
    database.close()
    source = {"sql": {"connection": "sqlite:///rows.db", "query": "SELECT text FROM stories ORDER BY rowid"}}
    assert take(filtered(none_of=[5]), source=source) == {"text": ["a", "b"]}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_list_that_is_left_is_still_refused_with_its_row(tmp_path, take, streaming):
    write_rows(tmp_path / "a.jsonl", {"text": 5}, {"text": ["a"]}, {"text": "b"})
    with pytest.raises(DataError, match=r"a\.jsonl:2: column 'text' holds a list"):
        take(filtered(none_of=[5]), streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_function_may_return_the_times_of_pandas(tmp_path, take, streaming):
    write_rows(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    (tmp_path / "times.py").write_text(
        "import pandas\n"
        "def stamp(row):\n"
        "    return {**row, 'day': pandas.Timestamp('2024-01-02') if row['text'] == 'a' else pandas.NaT}\n"
    )
    rows = take({"transforms": [{"function": {"path": "times:stamp"}}, {"drop_null": ["day"]}]}, streaming=streaming)
    assert rows == {"day": ["2024-01-02T00:00:00"], "text": ["a"]}
