import gzip
import json

import pytest

from tunesmith.data import records
from tunesmith.errors import DataError


def test_a_missing_key_is_null_and_lines_are_kept(read):
    rows = read("a.jsonl", '{"text": "a"}\n\n{"label": 1, "text": "b"}\r\n{"text": null, "label": 2}')
    assert rows.table.to_pydict() == {"text": ["a", "b", None], "label": [None, 1, 2]}
    assert [rows.origins(row) for row in range(3)] == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"]


def test_a_json_file_is_a_list_or_holds_one_below_its_field(read):
    listed = [{"text": "a"}, {"text": "b"}]
    whole = read("a.json", "\ufeff" + json.dumps(listed))
    nested = read("b.json", json.dumps({"meta": 1, "data": {"rows": listed}}), field="data.rows")
    zipped = read("c.json.gz", gzip.compress(json.dumps(listed).encode()))
    assert whole.table.equals(nested.table)
    assert whole.table.equals(zipped.table)
    assert nested.origins(1) == "b.json row 2"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file has no rows"),
        ("\n \n", "the file has no rows"),
        ('{"text": "a"}\n{"text": "b"\n', r"a\.jsonl:2:13: not JSON: Expecting ',' delimiter.*cut off"),
        ('{"text": "a"}\n{"text": b}\n{"text": "c"}', r"a\.jsonl:2:10: not JSON: Expecting value, at .*text.*: b\}"),
        ('{"text": "a"} {"text": "b"}', r"a\.jsonl:1:15: not JSON: Extra data"),
        ('{"text": "a"}\n["b"]', r"a\.jsonl:2: a row must be a JSON object.* not \[\"b\"\]"),
        ('{"n": NaN}', r"a\.jsonl:1: NaN is not JSON; write null: .*NaN"),
        ('{"n": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1, "a": 2}', r"a\.jsonl:1: an object has the key 'a' twice"),
        ('{"n": ' + "9" * 5000 + "}", r"a\.jsonl:1: .*4300 digits"),
        ("[" * 100_000, r"a\.jsonl:1: the JSON is nested too deeply"),
        ('{"text": "a\0"}', r"a\.jsonl:1:12: a NUL byte"),
        ('{"n": 1e999}', r"a\.jsonl:1: 1e999 is too large"),
        ('{"n": ' + "[" * 101 + "]" * 101 + "}", r"a\.jsonl:1: the JSON is nested too deeply: more than 100"),
    ],
)
def test_a_broken_line_is_refused_with_its_place_and_text(read, content, expected):
    with pytest.raises(DataError, match=expected):
        read("a.jsonl", content)


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        ({"dta": [], "meta": 1}, "data", r"no key 'data' \(keys present: dta, meta\). Did you mean dta\?"),
        ({"data": {"row": []}}, "data.rows", r"'data' has no key 'rows' \(keys present: row\)"),
        (
            {"data": [{"a": 1}]},
            None,
            "an object with the keys data, not a list of objects. Set the source's field, .* to data; or its keyed",
        ),
        ({"data": 3}, "data", "'data' holds 3, not a list"),
        ([{"a": 1}], "data", "holds a list, so no key 'data'"),
        ([{"a": 1}, "b"], None, r"a\.json row 2: a row must be a JSON object"),
        ([], None, "the file has no rows"),
    ],
)
def test_a_json_file_without_a_list_of_objects_is_refused(read, value, field, expected):
    with pytest.raises(DataError, match=expected):
        read("a.json", json.dumps(value), **({"field": field} if field else {}))


def test_broken_json_over_several_lines_is_located(read):
    with pytest.raises(DataError, match=r"a\.json:3:2: not JSON"):
        read("a.json", '[\n{"a": 1},\n{a: 1}\n]')
    with pytest.raises(DataError, match=r"set the source's format to jsonl"):
        read("a.json", '{"a": 1}\n{"a": 2}\n')


def test_the_members_of_an_object_can_be_rows(read):
    members = {"a": {"text": "x", "label": 1}, "b": {"text": "y"}}
    rows = read("a.json", json.dumps(members), keyed={"key": "id"})
    assert rows.table.to_pylist() == [{"id": "a", "text": "x", "label": 1}, {"id": "b", "text": "y", "label": None}]
    assert rows.origins(1) == "a.json row 2"


def test_members_may_be_values_or_objects_whose_members_become_columns(read):
    members = {"words": {"cat": "kæt", "use": {"NOUN": "jus", "VERB": "juz"}}}
    rows = read("a.json", json.dumps(members), field="words", keyed={"key": "word", "value": "phonemes"})
    assert rows.table.to_pylist() == [
        {"word": "cat", "phonemes": "kæt", "NOUN": None, "VERB": None},
        {"word": "use", "phonemes": None, "NOUN": "jus", "VERB": "juz"},
    ]


@pytest.mark.parametrize(
    ("value", "keyed", "expected"),
    [
        ([{"a": 1}], {"key": "k"}, "the file holds a list, not an object of rows"),
        ({"a": "x"}, {"key": "k"}, r"a\.json row 1: 'a' holds \"x\", not an object. Set the source's keyed.value"),
        ({"a": {"k": 1}}, {"key": "k"}, "the object of 'a' has a member 'k' of its own"),
        ({"a": 1, "b": {"v": 1}}, {"key": "k", "value": "v"}, r"row 2: the object of 'b' has a member 'v' of its own"),
        ({}, {"key": "k"}, "the file has no rows"),
    ],
)
def test_an_object_whose_members_are_no_rows_is_refused(read, value, keyed, expected):
    with pytest.raises(DataError, match=expected):
        read("a.json", json.dumps(value), keyed=keyed)


def test_a_json_file_that_would_fill_the_memory_is_refused(read, monkeypatch):
    monkeypatch.setattr(records, "MAX_JSON_BYTES", 100)
    with pytest.raises(DataError, match=r"a\.json: a json file of more than 100 bytes.*jsonl"):
        read("a.json", json.dumps([{"a": "x" * 100}]))


def test_keys_that_are_values_are_refused_before_they_fill_the_memory(read):
    with pytest.raises(DataError, match=r"a\.jsonl:1: 10,001 columns"):
        read("a.jsonl", json.dumps({f"k{i}": 1 for i in range(10_001)}))
