import json

import pytest
from pydantic import ValidationError

from tunesmith.data.sources import DataConfig, find_format


def refuse(**section):
    with pytest.raises(ValidationError) as caught:
        DataConfig.model_validate_json(json.dumps(section))
    return caught.value.errors()


@pytest.mark.parametrize(
    ("file", "option", "value"),
    [
        ("rows.parquet", "delimiter", ";"),
        ("rows.parquet", "encoding", "utf-8"),
        ("rows.tsv", "delimiter", ";"),
        ("rows.csv.gz", "field", "data"),
        ("rows.jsonl", "null_values", [""]),
        ("rows.jsonl", "columns", ["text"]),
        ("rows.csv", "unit", "line"),
    ],
)
def test_an_option_without_effect_on_the_format_is_refused_at_its_place(file, option, value):
    [error] = refuse(files=[file], **{option: value})
    assert error["loc"] == (option,)
    assert "no effect" in error["msg"]


def test_the_given_format_counts_and_not_the_extension():
    DataConfig(files=("rows.data",), format="csv", delimiter=";")
    [error] = refuse(files=["rows.csv"], format="jsonl", delimiter=";")
    assert error["loc"] == ("delimiter",)


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"files": []}, "files"),
        ({"files": ["a.csv"], "delimiter": '"'}, "delimiter"),
        ({"files": ["a.csv"], "delimiter": ";;"}, "delimiter"),
        ({"files": ["a.csv"], "columns": ["text", "text"]}, "columns"),
        ({"files": ["a.csv"], "encoding": "utf-9"}, "encoding"),
        ({"files": ["a.csv"], "encoding": "rot13"}, "encoding"),
        ({"files": ["a.csv"], "format": "xlsx"}, "format"),
    ],
)
def test_a_value_that_cannot_work_is_refused(section, place):
    assert [error["loc"][0] for error in refuse(**section)] == [place]


def test_paths_are_relative_to_the_recipe_and_no_part_of_the_key(tmp_path):
    sections = [
        DataConfig.model_validate_json('{"files": ["rows.csv"]}', context={"folder": folder})
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert [section.files for section in sections] == [
        (str(tmp_path / "a/rows.csv"),),
        (str(tmp_path / "b/rows.csv"),),
    ]
    assert sections[0].key_fields() == sections[1].key_fields()
    assert "files" not in sections[0].key_fields()


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("A.CSV.GZ", "csv"),
        ("a.ndjson", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.gz", None),
        ("a", None),
    ],
)
def test_a_name_says_its_format(name, format):
    assert find_format(name) == format
