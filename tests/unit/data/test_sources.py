import json

import pytest
from pydantic import ValidationError

from tunesmith.data.reader_options import ReaderOptions, find_compression, find_format
from tunesmith.data.sources import DataConfig, FilesSource, HubSource, SqlSource, reader_options

SQL = {"sql": {"connection": "SHOP_DB", "query": "select text from reviews"}}
HUB = {"hub": {"dataset": "org/name", "revision": "v1", "files": ["*.csv"]}}


def load(*sources, folder=None):
    return DataConfig.model_validate_json(json.dumps({"sources": sources}), context={"folder": folder})


def refuse(*sources):
    with pytest.raises(ValidationError) as caught:
        load(*sources)
    return [(error["loc"][1:], error["msg"]) for error in caught.value.errors() if error["type"] != "too_short"]


def test_a_source_is_told_by_its_key():
    sources = load({"files": ["a.csv"], "name": "a"}, {**HUB, "name": "b"}, {**SQL, "name": "c", "weight": 2}).sources
    assert [type(source) for source in sources] == [FilesSource, HubSource, SqlSource]
    assert [source.weight for source in sources] == [1, 1, 2]


@pytest.mark.parametrize("source", [{}, {"fles": ["a.csv"]}, {"files": ["a.csv"], **SQL}, {**HUB, **SQL}])
def test_a_source_has_exactly_one_key_that_tells_it(source):
    assert refuse(source) == [((0,), "a source has exactly one of the keys files, hub and sql")]


@pytest.mark.parametrize(
    ("file", "option", "value"),
    [
        ("rows.parquet", "delimiter", ";"),
        ("rows.arrow", "encoding", "utf-8"),
        ("rows.tsv", "delimiter", ";"),
        ("rows.csv.gz", "field", "data"),
        ("rows.csv.zst", "keyed", {"key": "word"}),
        ("rows.jsonl", "null_values", [""]),
        ("rows.jsonl", "columns", ["text"]),
        ("rows.conll", "quoting", "none"),
        ("rows.txt", "header", True),
        ("rows.csv", "unit", "line"),
    ],
)
def test_an_option_without_effect_on_the_format_is_refused_at_its_place(file, option, value):
    columns = {"columns": ["tokens"]} if file.endswith("conll") else {}
    [(place, message)] = refuse({"files": [file], option: value, **columns})
    assert place == (0, "files", option)
    assert "no effect" in message


def test_all_options_without_effect_are_refused_together():
    mistakes = refuse({"hub": {**HUB["hub"], "files": ["a.parquet"]}, "delimiter": ";", "unit": "line"})
    assert [place for place, _ in mistakes] == [(0, "hub", "delimiter"), (0, "hub", "unit")]


def test_nothing_can_be_chosen_about_reading_a_query():
    [(place, message)] = refuse({**SQL, "delimiter": ";"})
    assert (place, message) == ((0, "sql", "delimiter"), "has no effect on sql, only on files")


def test_the_given_format_counts_and_not_the_extension():
    load({"files": ["rows.data"], "format": "csv", "delimiter": ";"})
    [(place, _)] = refuse({"files": ["rows.csv"], "format": "jsonl", "delimiter": ";"})
    assert place == (0, "files", "delimiter")


@pytest.mark.parametrize(
    ("sources", "place", "expected"),
    [
        ([{"files": ["a.csv"], "name": "a"}], (0, "name"), "no effect with a single source"),
        ([{"files": ["a.csv"], "weight": 2}], (0, "weight"), "no effect with a single source"),
        ([{"files": ["a.csv"], "name": "a"}, {"files": ["b.csv"]}], (1, "name"), "of several sources each has a name"),
        ([{"files": ["a.csv"], "name": "a"}, {**SQL, "name": "a"}], (1, "name"), "'a' names 2 sources"),
        ([{"files": ["a.csv"], "name": "a b"}], (0, "files", "name"), "pattern"),
        ([{"files": ["a.csv"], "weight": 0}], (0, "files", "weight"), "greater than 0"),
    ],
)
def test_several_sources_are_told_apart_by_name(sources, place, expected):
    assert any(found == place and expected in message for found, message in refuse(*sources))


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"files": []}, "files"),
        ({"files": ["http://host/a.csv"]}, "files"),
        ({"files": ["s3://user:secret@bucket/a.csv"]}, "files"),
        ({"delimiter": '"'}, "delimiter"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"columns": ["text", "text"]}, "columns"),
        ({"header": False}, "header"),
        ({"files": ["a.conll"]}, "columns"),
        ({"encoding": "utf-9"}, "encoding"),
        ({"encoding": "rot13"}, "encoding"),
        ({"format": "xlsx"}, "format"),
        ({"s3": {}}, "s3"),
    ],
)
def test_a_value_that_cannot_work_is_refused(options, place):
    with pytest.raises(ValidationError) as caught:
        load({"files": ["a.csv"], **options})
    assert caught.value.errors()[0]["loc"][:4] == ("sources", 0, "files", place)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ("postgresql://me:secret@host/db", "holds no password"),
        ("postgresql://host/db?user=me&password=secret", "holds no password"),
        ("my database", "name of an environment variable"),
    ],
)
def test_a_connection_is_a_variable_or_a_url_without_a_password_and_is_not_repeated(connection, expected):
    [(place, message)] = refuse({"sql": {**SQL["sql"], "connection": connection}})
    assert place == (0, "sql", "sql", "connection")
    assert expected in message
    assert "secret" not in message


def test_a_revision_is_required():
    [(place, _)] = refuse({"hub": {"dataset": "org/name", "files": ["a.csv"]}})
    assert place == (0, "hub", "hub", "revision")


def test_paths_are_relative_to_the_recipe(tmp_path):
    [source] = load({"files": ["rows.csv", "s3://bucket/*.csv"]}, folder=tmp_path).sources
    assert source.files == (str(tmp_path / "rows.csv"), "s3://bucket/*.csv")
    [source] = load({"sql": {**SQL["sql"], "connection": "sqlite:///a/shop.db"}}, folder=tmp_path).sources
    assert source.sql.connection == f"sqlite:///{tmp_path}/a/shop.db"


def test_where_rows_come_from_is_no_part_of_the_key_and_how_they_are_read_is(tmp_path):
    first = load({"files": ["a.csv"], "name": "a"}, {**SQL, "name": "b"}, folder=tmp_path)
    other = load({"files": ["s3://bucket/b.csv"], "name": "a", "s3": {"region": "x"}}, {**HUB, "name": "b"})
    keys = [{"columns": ["x"]}, {"null_values": ["NA"]}]
    assert first.key_fields()["sources"][0] == other.key_fields()["sources"][0]
    assert "sql" not in first.key_fields()["sources"][1]
    assert all(
        load({"files": ["a.csv"], **key}).key_fields() != load({"files": ["a.csv"]}).key_fields() for key in keys
    )


def test_the_options_of_a_reader_leave_out_what_is_no_matter_of_reading():
    sources = load({"files": ["a.csv"], "name": "a", "weight": 2, "header": True}, {**SQL, "name": "b"}).sources
    assert reader_options(sources[0]) == ReaderOptions(header=True)
    assert reader_options(sources[0]).model_fields_set == {"header"}
    assert reader_options(sources[1]) == ReaderOptions()


@pytest.mark.parametrize(
    ("name", "format", "compression"),
    [
        ("a.csv", "csv", None),
        ("A.CSV.GZ", "csv", "gzip"),
        ("a.ndjson.bz2", "jsonl", "bz2"),
        ("a.feather", "arrow", None),
        ("a.parquet", "parquet", None),
        ("a.gz", None, "gzip"),
        ("a", None, None),
    ],
)
def test_a_name_says_its_format_and_compression(name, format, compression):
    assert (find_format(name), find_compression(name)) == (format, compression)
