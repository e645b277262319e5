import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.partition import (
    TEST,
    TRAIN,
    VALIDATION,
    cut_fractions,
    cut_order,
    name_rows,
    repeat_rows,
    spread_evenly,
    tell_apart,
)
from tunesmith.data.rows import hash_rows, number_equals


def hashes_of(values, purpose="test"):
    return hash_rows(pa.table({"value": [str(value) for value in values]}), ["value"], purpose=purpose)


def test_fractions_become_splits_and_test_comes_first():
    codes = cut_fractions(np.array([0.0, 0.19, 0.2, 0.29, 0.31, 0.99]), 0.1, 0.2)
    assert codes.tolist() == [TEST, TEST, VALIDATION, VALIDATION, TRAIN, TRAIN]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("num_rows", [20, 35, 187, 5000])
def test_every_stratum_has_its_share_give_or_take_two_rows(share, num_rows):
    labels = [number % 7 for number in range(7 * num_rows)]
    fractions = spread_evenly(hashes_of(range(len(labels))), hashes_of(labels))
    counts = [np.count_nonzero(fractions[np.array(labels) == label] < share) for label in range(7)]
    assert all(abs(count - share * num_rows) <= 2 for count in counts)


@given(st.lists(st.integers(0, 30), max_size=60), st.lists(st.integers(0, 30), max_size=20))
def test_what_is_appended_moves_no_row_and_equal_inputs_stay_together(rows, more):
    before = spread_evenly(hashes_of(rows), hashes_of([row % 3 for row in rows], "strata"))
    both = [*rows, *more]
    after = spread_evenly(hashes_of(both), hashes_of([row % 3 for row in both], "strata"))
    assert np.array_equal(after[: len(rows)], before)
    assert len({(row, fraction) for row, fraction in zip(both, after.tolist(), strict=True)}) == len(set(both))


def test_rows_are_cut_by_time():
    days = pa.chunked_array([["2024-01-01", "2024-06-01"], ["2024-05-31", "2025-01-01"]])
    assert cut_order(days, "2024-06-01", "2025-01-01").tolist() == [TRAIN, VALIDATION, TRAIN, TEST]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_a_row_comes_as_often_as_its_weight_says(weights):
    weights = np.array(weights)
    repeated = repeat_rows(np.arange(len(weights)), weights, hashes_of(range(len(weights))))
    times = np.bincount(repeated, minlength=len(weights))
    assert np.all(np.abs(times - weights) < 1)
    assert np.array_equal(repeated, np.sort(repeated))


def test_fractional_weights_take_their_share_of_the_rows():
    repeated = repeat_rows(np.arange(20_000), np.full(20_000, 1.25), hashes_of(range(20_000)))
    assert abs(len(repeated) - 25_000) < 400


def test_equal_rows_have_names_of_their_own():
    hashes = hashes_of(["a", "b", "a", "a"])
    numbers = number_equals(hashes)
    names = name_rows(hashes, numbers).to_pylist()
    assert len(set(names)) == 4
    assert names[2] == f"{names[0]}-2"
    assert names[3] == f"{names[0]}-3"
    assert len({bytes(row) for row in tell_apart(hashes, numbers)}) == 4


@given(st.lists(st.integers(0, 5), max_size=40))
def test_equals_are_numbered_in_their_order(values):
    expected = [values[:index].count(value) for index, value in enumerate(values)]
    assert number_equals(hashes_of(values)).tolist() == expected
