import json

import numpy as np
import pytest
from pydantic import ValidationError

from made_rows import apply, rows_of, values_of
from tunesmith.data.derived import DeriveOptions, parse_template
from tunesmith.errors import DataError


def derived(rows, **options):
    left, dropped = apply(rows, {"derive": {"into": "new", **options}})
    assert dropped == {}
    assert left.table.column_names == [*rows.table.column_names, "new"]
    return values_of(left)["new"]


def test_a_template_puts_columns_into_a_text():
    rows = rows_of(title=["T", "U"], **{"body text": ["b", "c"]})
    assert derived(rows, template="{title} [SEP] {body text} {{}}") == ["T [SEP] b {}", "U [SEP] c {}"]


def test_a_template_writes_numbers_and_true_as_csv_does():
    rows = rows_of(a=[1, 2], b=[1.0, 2.5], c=[True, False])
    assert derived(rows, template="{a}/{b}/{c}/{a}") == ["1/1/true/1", "2/2.5/false/2"]


def test_null_makes_the_whole_text_null_unless_it_has_a_text():
    rows = rows_of(a=["x", None], b=["y", "z"])
    assert derived(rows, template="{a} {b}") == ["x y", None]
    assert derived(rows, template="{a} {b}", null_text="") == ["x y", " z"]


@pytest.mark.parametrize(
    ("options", "lengths"),
    [({}, [3, 0, None]), ({"unit": "words"}, [3, 0, None]), ({"unit": "characters"}, [11, 0, None])],
)
def test_a_length_counts_words_or_characters(options, lengths):
    assert derived(rows_of(a=[" één  b\tc\n ", "", None]), length_of="a", **options) == lengths


@pytest.mark.parametrize("constant", ["shop", 3, 2.5, True, ""])
def test_a_constant_is_in_every_row_as_what_it_is(constant):
    values = derived(rows_of(a=["x", None]), constant=constant)
    assert values == [constant, constant]
    assert {type(value) for value in values} == {type(constant)}


@pytest.mark.parametrize("options", [{"template": "{a}!"}, {"length_of": "a"}, {"constant": 1}])
def test_no_rows_give_no_values(options):
    assert derived(rows_of(a=["x"]).take(np.arange(0)), **options) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"into": "a", "constant": 1}, "derive: there is a column 'a' already .*columns present: a, ttl"),
        ({"into": "n", "length_of": "title"}, r"derive: there is no column 'title' .* Did you mean ttl\?"),
        ({"into": "n", "template": "{a} {titl}"}, r"derive: there is no column 'titl' .* Did you mean ttl\?"),
        ({"into": "n", "template": "{a} {ttl}"}, r"^f:3: transform derive: column 'ttl' holds a list, \[1\]"),
        ({"into": "n", "length_of": "ttl"}, r"^f:3: transform derive: column 'ttl' holds a list"),
    ],
)
def test_a_column_that_cannot_be_derived_says_why(options, expected):
    with pytest.raises(DataError, match=expected):
        apply(rows_of(a=["x", "y"], ttl=["z", [1]]), {"derive": options})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "derive needs one of template, length_of and constant, not none"),
        ({"constant": 1, "length_of": "a"}, "not length_of and constant"),
        ({"template": "abc"}, "names no column"),
        ({"template": "{}"}, "a pair of braces holds the name"),
        ({"template": "{a:>3}"}, "a pair of braces holds the name"),
        ({"template": "{a!r}"}, "a pair of braces holds the name"),
        ({"template": "{a"}, "expected '}'"),
        ({"length_of": "a", "null_text": ""}, "has no effect without `template`"),
        ({"template": "{a}", "unit": "words"}, "has no effect without `length_of`"),
        ({"length_of": "a", "unit": "tokens"}, "'words' or 'characters'"),
    ],
)
def test_what_cannot_be_derived_is_refused(options, expected):
    with pytest.raises(ValidationError, match=expected):
        DeriveOptions.model_validate_json(json.dumps({"into": "new", **options}))


def test_a_template_is_taken_apart():
    assert list(parse_template("{a}, {b.c[0]}{{!}}")) == [("", "a"), (", ", "b.c[0]"), ("{", None), ("!}", None)]
