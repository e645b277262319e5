import json
import logging
import os
import sqlite3

import pytest

from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.readers import read_file
from tunesmith.data.sources import DataConfig, reader_options
from tunesmith.errors import DataError
from tunesmith.store.folder import FolderStore


@pytest.fixture
def fetch_all(tmp_path):
    def run(*sources, **environ):
        text = json.dumps({"sources": sources})
        data = DataConfig.model_validate_json(text, context={"folder": tmp_path})
        return data, fetch(data, FolderStore(tmp_path / "store"), environ)

    return run


def test_the_key_is_the_content_and_the_facts_are_the_files(write, fetch_all, tmp_path):
    write("a/rows.csv", "text\na\n")
    _, first = fetch_all({"files": ["a/rows.csv"]})
    [known] = [SourceFile.from_json(file) for file in json.loads(first.model_dump_json())["facts"]["files"]]
    assert (known.label, known.format, known.size_bytes, len(known.sha256)) == ("rows.csv", "csv", 7, 64)
    os.utime(write("b.csv", "text\na\n"), (0, 0))
    assert fetch_all({"files": ["b.csv"]})[1].key == first.key
    write("b.csv", "text\nb\n")
    assert fetch_all({"files": ["b.csv"]})[1].key != first.key


def test_what_the_recipe_does_not_say_is_recorded_and_printed(write, fetch_all, caplog):
    write("a.csv.gz", __import__("gzip").compress(b"text\na\n"))
    write("b.txt", "a\n")
    caplog.set_level(logging.INFO, "tunesmith")
    _, ref = fetch_all({"files": ["a.csv.gz"], "name": "a"}, {"files": ["b.txt"], "name": "b", "unit": "line"})
    assert ref.facts["assumed"] == [
        "a: format csv, by the extension .csv.gz",
        "a: encoding utf-8",
        "a: a comma between fields",
        "a: double quotes enclose fields",
        "a: line 1 names the columns",
        "a: no field stands for null",
        "b: format text, by the extension .txt",
        "b: encoding utf-8",
    ]
    assert "; a: encoding utf-8; " in next(text for text in caplog.messages if text.startswith("fetch: assumed a: "))
    assert "fetch: 2 files, 31 bytes" in caplog.messages or "fetch: 2 files" in caplog.text


def test_nothing_is_assumed_that_the_recipe_says(write, fetch_all):
    write("a.csv", "1;a\n")
    options = {"format": "csv", "encoding": "utf-8", "delimiter": ";", "quoting": "none", "null_values": []}
    _, ref = fetch_all({"files": ["a.csv"], **options, "columns": ["n", "text"], "header": False})
    assert ref.facts["assumed"] == []


def test_a_query_becomes_a_file_whose_rows_know_where_they_are_from(tmp_path, write, fetch_all):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table reviews as select 'good' as text, 5 as stars")
    connection.close()
    write("a.csv", "text\na\n")
    query = {"sql": {"connection": "sqlite:///shop.db", "query": "select * from reviews"}, "name": "shop"}
    data, ref = fetch_all({"files": ["a.csv"], "name": "files"}, query)
    file = SourceFile.from_json(ref.facts["files"][1])
    [block] = read_file(file, reader_options(data.sources[file.source]))
    assert {name: column.to_pylist() for name, column in block.columns.items()} == {"text": ["good"], "stars": [5]}
    assert f"{file.prefix}{block.numbers[0]}" == "shop (sql) row 1"
    assert "shop: rows sorted by their values: the query has no ORDER BY" in ref.facts["assumed"]


def test_a_file_in_two_sources_is_refused(write, fetch_all):
    write("a.csv", "text\na\n")
    with pytest.raises(DataError, match=r"a\.csv is named twice"):
        fetch_all({"files": ["a.csv"], "name": "a"}, {"files": ["*.csv"], "name": "b"})


def test_a_file_that_cannot_be_read_is_named(write, fetch_all, monkeypatch):
    write("a.csv", "text\na\n")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tunesmith.data.fetch.hash_prefix", refuse)
    with pytest.raises(DataError, match=r"a\.csv: cannot be read: Permission denied. Check its permissions"):
        fetch_all({"files": ["a.csv"]})


def test_a_file_that_changes_while_it_is_hashed_is_refused(write, fetch_all, monkeypatch):
    write("a.csv", "text\na\n")
    monkeypatch.setattr("tunesmith.data.fetch.hash_prefix", lambda path: path.write_text("more\n") and "0" * 64)
    with pytest.raises(DataError, match=r"a\.csv: the file changed while it was read"):
        fetch_all({"files": ["a.csv"]})
