import pytest
from pydantic import ValidationError

from made_rows import apply, read_transform, rows_of, values_of
from tunesmith.errors import DataError


def mapped(values, *operations):
    rows, dropped = apply(rows_of(a=values), {"map": {"a": operations}})
    assert dropped == {}
    return values_of(rows)["a"]


@pytest.mark.parametrize(
    ("values", "operations", "expected"),
    [
        ([" A ", None], ["strip"], ["A", None]),
        ([" a \n b "], ["collapse_whitespace"], ["a b"]),
        (["ΑΣ"], ["lower"], ["ας"]),
        (["&lt;b&gt;"], ["unescape_html"], ["<b>"]),
        (["e\u0301", "\uff45"], [{"normalize_unicode": "NFC"}], ["é", "\uff45"]),
        (["e\u0301", "\uff45"], [{"normalize_unicode": "NFKC"}], ["é", "e"]),
        (["see http://a"], [{"replace": r"http://\S+", "by": "<url>"}], ["see <url>"]),
        (["a-b"], [{"replace": "(.)-(.)", "by": r"\2-\1"}], ["b-a"]),
        ([["a", 1, True], [], None], [{"join": " | "}], ["a | 1 | true", "", None]),
        ([0, 1, None], [{"values": {0: "bad", 1: "good"}}], ["bad", "good", None]),
        (["0", 1.0, True], [{"values": {0: "bad", 1: "good", "true": 2}}], ["bad", "good", "2"]),
        (["a", "b"], [{"values": {"a": None}, "others": "keep"}], [None, "b"]),
        (["a", "b"], [{"values": {"a": 1}, "others": "null"}], ["1", None]),
        ([" &amp; A"], ["unescape_html", "strip", "lower"], ["& a"]),
        ([" A", 5, 2.0, False], ["strip", "lower"], ["a", "5", "2", "false"]),
        ([None, None], ["strip", {"join": " "}, {"values": {"a": 1}}], [None, None]),
        ([], ["strip", {"join": " "}, {"values": {"a": 1}}], []),
    ],
)
def test_operations_are_done_one_after_the_other(values, operations, expected):
    assert mapped(values, *operations) == expected


def test_a_column_keeps_its_place_and_the_others_their_values():
    rows, _ = apply(rows_of(a=["A"], b=["B"], c=["C"]), {"map": {"b": ["lower"], "a": ["lower"]}})
    assert list(values_of(rows).items()) == [("a", ["a"]), ("b", ["b"]), ("c", ["C"])]


@pytest.mark.parametrize(
    ("values", "operation", "expected"),
    [
        (["a", ["b"]], "strip", r"^f:3: transform map: column 'a' holds a list, \[\"b\"\]\. Use `join`"),
        (["a", {"b": 1}], "lower", r"^f:3: .* holds an object"),
        (["a", "\ud800"], {"values": {"a": 1}}, r"^f:3: .* holds text that is not Unicode"),
        ([["a"], "b"], {"join": " "}, r"^f:3: transform map: column 'a' holds \"b\", which is no list"),
        ([["a"], ["b", None]], {"join": " "}, r"^f:3: .* a list with other things than texts, \[\"b\", null\]"),
        ([["a"], [["b"]]], {"join": " "}, r"^f:3: .* a list with other things"),
        (["p", None, "qq"], {"values": {"p": 1, "q": 2}},
         r"^f:4: .* holds \"qq\", which is no value that is mapped\. `values` names p, q\. Did you mean q\? Name it"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_worked_on_is_named_with_its_row(values, operation, expected):
    with pytest.raises(DataError, match=expected):
        mapped(values, operation)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"replace": "(", "by": ""}, r"missing \)"),
        ({"replace": "a", "by": r"\1"}, "Rewrite schema requests 1"),
        ({"replace": "a"}, "Field required"),
        ({"values": {}}, "at least 1"),
        ({"values": {"a": "b"}, "others": "drop"}, "'stop', 'keep' or 'null'"),
        ({"values": {"a": "b"}, "join": " "}, "Extra inputs"),
        ({"normalize_unicode": "NFD"}, "'NFC' or 'NFKC'"),
        ("upper", "'strip', 'collapse_whitespace'"),
        ({"upper": 1}, "'upper' found"),
        (3, "Unable to extract tag"),
    ],
)
def test_what_is_no_operation_is_refused(operation, expected):
    with pytest.raises(ValidationError, match=expected):
        read_transform({"map": {"a": [operation]}})
