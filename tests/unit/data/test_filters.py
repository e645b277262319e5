import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from made_rows import column_of
from tunesmith.data.filters import FilterOptions, count_units, find_dropped, list_choices


def options_of(**options):
    return FilterOptions.model_validate_json(json.dumps({"column": "a", **options}))


def reasons_of(values, **options):
    """The reasons of each value, in their order."""
    found = [(reason, mask.tolist()) for reason, mask in find_dropped(column_of(*values), options_of(**options))]
    return [[reason for reason, mask in found if mask[row]] for row in range(len(values))]


@pytest.mark.parametrize(
    ("values", "options", "reasons"),
    [
        (["x", None], {"is_null": False}, [[], ["no a"]]),
        (["x", None], {"is_null": True}, [["a not null"], []]),
        (["x", " \u3000", "", None], {"is_empty": False}, [[], ["empty a"], ["empty a"], ["no a"]]),
        (["x", " "], {"is_empty": True}, [["a not empty"], []]),
        ([[1], [], {}, " ", 3], {"is_empty": False}, [[], ["empty a"], ["empty a"], ["empty a"], []]),
        (["x y", "x", None], {"words": {"min": 2}}, [[], ["a shorter than 2 words"], ["no a"]]),
        (["x y", "x"], {"words": {"max": 1}}, [["a longer than 1 word"], []]),
        (["xy", "xyz", "x"], {"characters": {"min": 2, "max": 2}},
         [[], ["a longer than 2 characters"], ["a shorter than 2 characters"]]),
        ([1, 2, 3, None], {"range": {"min": 2}}, [["a below 2"], [], [], ["no a"]]),
        ([1.5, 2.5], {"range": {"min": 0.5, "max": 1.5}}, [[], ["a above 1.5"]]),
        (["1", "x", "9"], {"range": {"max": 5}}, [[], ["a not a number"], ["a above 5"]]),
        ([2**53, 2**53 + 1], {"range": {"max": 2**53}}, [[], [f"a above {2**53}"]]),
        (["p", "q", None], {"one_of": ["p"]}, [[], ["a not among p"], ["no a"]]),
        (["p", "q", None], {"none_of": ["p", "r"]}, [["a among p, r"], [], ["no a"]]),
        ([1, 2], {"one_of": [1, True]}, [[], ["a not among 1, true"]]),
        (["ab", "b", None], {"matches": "^a"}, [[], ["a does not match ^a"], ["no a"]]),
        (["ab", "b", None], {"not_matches": "^a"}, [["a matches ^a"], [], ["no a"]]),
        ([["x"], "x", 5], {"words": {"max": 3}}, [["a not text"], [], []]),
        (["x", "x y"], {"words": {"min": 2}, "not_matches": "y"}, [["a shorter than 2 words"], ["a matches y"]]),
        ([], {"words": {"min": 2}}, []),
        ([None, None], {"range": {"min": 2}}, [["no a"], ["no a"]]),
    ],
)  # fmt: skip
def test_a_condition_gives_each_row_that_it_drops_a_reason(values, options, reasons):
    found = reasons_of(values, **options)
    assert [row[:1] for row in found] == [row[:1] for row in reasons]
    assert [bool(row) for row in found] == [bool(row) for row in reasons]


CONDITIONS = [
    {"is_empty": False},
    {"words": {"min": 2, "max": 3}},
    {"characters": {"max": 3}},
    {"range": {"min": -1, "max": 1}},
    {"one_of": ["a", 1]},
    {"none_of": ["a", 1]},
    {"matches": "a"},
    {"not_matches": "a"},
]


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.none() | st.integers(-3, 3) | st.text(alphabet="a 1", max_size=6), max_size=5),
    condition=st.sampled_from(CONDITIONS),
)
def test_a_row_is_kept_or_dropped_whatever_its_neighbours_are_and_null_is_always_dropped(values, condition):
    together = reasons_of(values, **condition)
    assert together == [reasons_of([value], **condition)[0] for value in values]
    assert all(reasons for value, reasons in zip(values, together, strict=True) if value is None)


def test_reasons_have_a_row_for_each_row():
    for _, mask in find_dropped(column_of("a", None, "b"), options_of(words={"min": 1}, one_of=["a"], is_empty=False)):
        assert mask.dtype == np.bool_
        assert mask.shape == (3,)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "filter needs a condition: is_null, is_empty, words"),
        ({"is_null": False, "words": {"min": 1}}, "is_null stands alone; null never meets words"),
        ({"words": {}}, "needs `min`, `max` or both"),
        ({"words": {"min": 3, "max": 2}}, r"min \(3\) is above max \(2\)"),
        ({"words": {"min": 0}}, "greater than or equal to 1"),
        ({"range": {"min": 3, "max": 2.5}}, r"min \(3\) is above max \(2.5\)"),
        ({"matches": "("}, r"missing \)"),
        ({"not_matches": "(?!a)"}, "invalid perl operator"),
        ({"one_of": []}, "at least 1"),
        ({"none_of": [["a"]]}, "valid string"),
    ],
)
def test_a_filter_that_cannot_work_is_refused(options, expected):
    with pytest.raises(ValidationError, match=expected):
        options_of(**options)


def test_long_lists_of_choices_are_shown_in_part():
    assert list_choices(["a", 1, True]) == "a, 1, true"
    assert list_choices([*"abcdefg"]) == "a, b, c, d, e, ... (7 values)"
    assert count_units(1000, "words") == "1,000 words"
