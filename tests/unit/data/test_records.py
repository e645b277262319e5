import gzip
import json

import pytest

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
        ("{}\n{}", "no keys at all"),
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
        ({"data": [{"a": 1}]}, None, "an object with the keys data, not a list of objects. Set data.field.* to data"),
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
    with pytest.raises(DataError, match=r"set data\.format: jsonl"):
        read("a.json", '{"a": 1}\n{"a": 2}\n')
