import json

import pytest
from pydantic import TypeAdapter, ValidationError

from tunesmith.data.transforms import FunctionOptions, Rename, Transform

adapter = TypeAdapter(Transform)


@pytest.mark.parametrize(
    "transform",
    [
        {"rename": {"stars": "label"}},
        {"drop_null": ["text", "label"]},
        {"drop_duplicates": ["text"]},
        {"derive_length": {"column": "text", "into": "num_words"}},
        {"select": {"first": 1000}},
        {"select": {"columns": ["text"]}},
        {"shuffle": {"seed": 1}},
        {"shuffle": {}},
        {"function": {"path": "cleaning.reviews:fix"}},
    ],
)
def test_a_transform_is_written_as_a_mapping_with_its_name(transform):
    assert next(iter(adapter.validate_json(json.dumps(transform)).key_fields())) == next(iter(transform))


@pytest.mark.parametrize(
    "transform",
    [
        {"renme": {"a": "b"}},
        {"rename": {"a": "b"}, "drop_null": ["a"]},
        {"rename": {}},
        {"drop_null": []},
        {"drop_null": "text"},
        {"select": {}},
        {"select": {"first": 0}},
        {"shuffle": {"seed": -1}},
        {"derive_length": {"column": "text", "into": "n", "unit": "tokens"}},
        {"function": {"path": "cleaning"}},
        {"function": {"path": "../cleaning:fix"}},
        "shuffle",
        {},
    ],
)
def test_what_is_no_transform_is_refused(transform):
    with pytest.raises(ValidationError):
        adapter.validate_json(json.dumps(transform))


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValidationError, match="'rename', 'drop_null'"):
        adapter.validate_json('{"renme": {"a": "b"}}')


def test_a_transform_may_be_built_in_python():
    rename = Rename(rename={"a": "b"})
    assert adapter.validate_python(rename) is rename


def test_a_function_is_looked_for_beside_the_recipe(tmp_path):
    options = FunctionOptions.model_validate_json('{"path": "cleaning:fix"}', context={"folder": tmp_path})
    assert options.folder == str(tmp_path)
    assert options.key_fields() == {"path": "cleaning:fix"}
