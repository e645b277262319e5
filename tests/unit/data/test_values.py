import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_rows import column_of
from tunesmith.data.values import is_one_of, to_numbers, to_texts, write_value


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["a", None, ""], ["a", None, ""]),
        ([1, None, -5], ["1", None, "-5"]),
        ([1.0, 2.5, None, 1e300], ["1", "2.5", None, "1e+300"]),
        ([True, None, False], ["true", None, "false"]),
        (["a", 1, 2.0, True, None, [1], {"b": 2}], ["a", "1", "2", "true", None, None, None]),
        (["\ud800", "a"], [None, "a"]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_each_value_has_its_text_whatever_is_beside_it(values, texts):
    found, is_other = to_texts(column_of(*values))
    assert found.to_pylist() == texts
    expected = [text is None and value is not None for text, value in zip(texts, values, strict=True)]
    assert is_other.tolist() == expected


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["1", "x", None, "-2.5", "1e3", "007", "1e999", " 1"], [1, None, None, -2.5, 1000, None, None, None]),
        ([1, None], [1, None]),
        ([True, None], [None, None]),
        ([1, "2", "x", [3], True, 2**70], [1, 2, None, None, None, float(2**70)]),
    ],
)
def test_each_value_is_the_number_that_it_is_written_as(values, numbers):
    assert to_numbers(column_of(*values)).to_pylist() == numbers


@pytest.mark.parametrize(
    ("values", "choices", "found"),
    [
        (["a", "b", None], ["a", "c"], [True, False, False]),
        ([1, 2, None], [1, "2"], [True, True, False]),
        ([1.0, 2.5], [1, 2.5], [True, True]),
        (["1", "1.0", "x"], [1], [True, True, False]),
        (["1", "1.0", "x"], ["1"], [True, False, False]),
        ([True, False], [True], [True, False]),
        (["true", "yes"], [True], [True, False]),
        ([1, 0], [True], [False, False]),
        ([2**60, 2**60 + 1], [2**60 + 1], [False, True]),
        ([3], [0.5, 2**80], [False]),
        ([1.5, 2.0**53, 2.0**60], [2**53 + 1, 2**60, 10**400], [False, False, True]),
        ([str(2**53), str(2**53 + 1), "x"], [2**53 + 1], [False, True, False]),
        ([["a"], "a"], ["a"], [False, True]),
        ([None, None], ["a"], [False, False]),
    ],
)
def test_a_choice_is_compared_as_what_it_is(values, choices, found):
    assert is_one_of(column_of(*values), choices).tolist() == found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.integers(-3, 3) | st.sampled_from(["1", "a", "true"]) | st.booleans(), max_size=6))
def test_what_is_asked_of_a_value_does_not_depend_on_its_neighbours(values):
    together = (
        to_texts(column_of(*values)).texts.to_pylist(),
        to_numbers(column_of(*values)).to_pylist(),
        is_one_of(column_of(*values), [1, "a", True]).tolist(),
    )
    alone = (
        [to_texts(column_of(value)).texts[0].as_py() for value in values],
        [to_numbers(column_of(value))[0].as_py() for value in values],
        [bool(is_one_of(column_of(value), [1, "a", True])[0]) for value in values],
    )
    assert together == alone


def test_what_has_no_text_is_none():
    assert [write_value(value) for value in (None, [], {}, b"a", "\udc00")] == [None] * 5
