import json

import pytest
from pydantic import TypeAdapter, ValidationError

from tunesmith.data.functions import function_digest
from tunesmith.data.transforms import Rename, Transform, digest_functions, is_local

adapter = TypeAdapter(Transform)

LOCAL = [
    {"rename": {"stars": "label"}},
    {"select_columns": ["text"]},
    {"remove_columns": ["id"]},
    {"drop_null": ["text", "label"]},
    {"filter": {"column": "text", "words": {"min": 3}}},
    {"map": {"text": ["strip", {"replace": "a", "by": "b"}], "label": [{"values": {"0": "negative"}}]}},
    {"derive": {"into": "num_words", "length_of": "text"}},
    {"explode": ["tags"]},
    {"function": {"path": "cleaning.reviews:fix"}},
    {"function": {"path": "cleaning:fix", "batched": True, "batch_size": 10}},
    {"sample": {"fraction": 0.1}},
]
GLOBAL = [
    {"drop_duplicates": ["text"]},
    {"sample": {"num_rows": 100, "seed": 1}},
    {"shuffle": {"seed": 1}},
    {"shuffle": {}},
    {"take": 1000},
]


def read(transform):
    return adapter.validate_json(json.dumps(transform))


@pytest.mark.parametrize("transform", [*LOCAL, *GLOBAL])
def test_a_transform_is_written_as_a_mapping_with_its_name(transform):
    assert next(iter(read(transform).key_fields())) == next(iter(transform))


def test_a_transform_is_local_where_it_looks_at_one_row_at_a_time():
    assert [is_local(read(transform)) for transform in LOCAL] == [True] * len(LOCAL)
    assert [is_local(read(transform)) for transform in GLOBAL] == [False] * len(GLOBAL)


@pytest.mark.parametrize(
    "transform",
    [
        {"renme": {"a": "b"}},
        {"rename": {"a": "b"}, "drop_null": ["a"]},
        {"rename": {}},
        {"select_columns": []},
        {"remove_columns": "text"},
        {"drop_null": []},
        {"filter": {"words": {"min": 3}}},
        {"map": {}},
        {"map": {"text": []}},
        {"map": {"text": "strip"}},
        {"derive": {"into": "n"}},
        {"explode": []},
        {"sample": {}},
        {"sample": {"fraction": 0.5, "num_rows": 3}},
        {"sample": {"fraction": 1}},
        {"sample": {"num_rows": 0}},
        {"shuffle": {"seed": -1}},
        {"take": 0},
        {"function": {"path": "cleaning"}},
        {"function": {"path": "../cleaning:fix"}},
        {"function": {"path": "cleaning:fix", "batch_size": 10}},
        {"function": {"path": "cleaning:fix", "batched": True, "batch_size": 0}},
        "shuffle",
        {},
    ],
)
def test_what_is_no_transform_is_refused(transform):
    with pytest.raises(ValidationError):
        read(transform)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValidationError, match="'rename', 'select_columns'"):
        read({"renme": {"a": "b"}})


def test_a_transform_may_be_built_in_python():
    rename = Rename(rename={"a": "b"})
    assert adapter.validate_python(rename) is rename


@pytest.mark.parametrize("transform", [*LOCAL, *GLOBAL])
def test_a_transform_survives_json(transform):
    loaded = read(transform)
    assert adapter.validate_json(adapter.dump_json(loaded)) == loaded


def test_the_source_of_each_function_shapes_the_key(tmp_path):
    (tmp_path / "cleaning.py").write_text("def fix(row): return row")
    transforms = [
        adapter.validate_json(json.dumps(transform), context={"folder": tmp_path})
        for transform in ({"take": 1}, {"function": {"path": "cleaning:fix"}})
    ]
    assert digest_functions(transforms) == {"function cleaning:fix": function_digest(transforms[1].function)}
    assert digest_functions(transforms[:1]) == {}


def test_functions_of_one_name_in_two_folders_both_shape_the_key(tmp_path):
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cleaning.py").write_text(f"def fix(row): return row  # {folder}")
    option = {"function": {"path": "cleaning:fix"}}
    transforms = [
        adapter.validate_json(json.dumps(option), context={"folder": tmp_path / folder}) for folder in ("old", "new")
    ]
    digests = digest_functions(transforms)
    assert [*digests] == ["function cleaning:fix", "function cleaning:fix (2)"]
    assert len({*digests.values()}) == 2
