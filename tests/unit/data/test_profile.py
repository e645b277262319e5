"""The profile of a snapshot."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.lengths import EDGES, count_words
from tunesmith.data.profile import (
    MAX_VALUES,
    PROFILE,
    Profile,
    Truncation,
    count_duplicates,
    merge_profiles,
    profile_part,
    read_profile,
)
from tunesmith.data.rows import hash_rows

TEXT = st.text(alphabet=" \t\n\rab.ü漢", max_size=30)
ROWS = st.lists(
    st.tuples(
        st.none() | TEXT, st.none() | st.integers(-5, 5), st.none() | st.booleans(), st.none() | st.floats(width=32)
    ),
    max_size=40,
)


def make_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [*zip(*rows, strict=True)] or [()] * 4
    types = {"text": pa.string(), "grade": pa.int64(), "flag": pa.bool_(), "price": pa.float64()}
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types.values(), strict=True)]
    return pa.table(arrays, names=[*types])


def profile_parts(table: pa.Table, cuts: list[int]) -> Profile:
    bounds = [0, *sorted(cut % (table.num_rows + 1) for cut in cuts), table.num_rows]
    parts = [profile_part(table.slice(start, end - start)) for start, end in pairwise(bounds)]
    return merge_profiles(json.loads(json.dumps(parts)))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.integers(0, 100), max_size=4))
def test_parts_tell_together_what_the_whole_tells(rows, cuts):
    table = make_table(rows)
    whole, merged = profile_parts(table, []), profile_parts(table, cuts)
    assert merged.num_rows == len(rows)
    for name, column in whole.columns.items():
        other = merged.columns[name]
        left_out = {"numbers"}
        assert other.model_dump(exclude=left_out) == column.model_dump(exclude=left_out)
        if column.numbers is None:
            assert other.numbers is None
        else:
            assert (other.numbers.num_values, other.numbers.least, other.numbers.greatest) == (
                column.numbers.num_values, column.numbers.least, column.numbers.greatest,
            )  # fmt: skip
            assert other.numbers.mean == pytest.approx(
                column.numbers.mean, rel=1e-9, abs=1e-9 * abs(column.numbers.greatest - column.numbers.least)
            )


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_counts_are_those_of_plain_python(rows):
    table = make_table(rows)
    column = profile_parts(table, []).columns["text"]
    texts = [row[0] for row in rows if row[0] is not None]
    assert (column.num_values, column.num_nulls) == (len(texts), len(rows) - len(texts))
    assert column.values == {text: texts.count(text) for text in texts}
    assert column.characters.total == sum(map(len, texts))
    assert column.words.total == sum(len(text.split()) for text in texts)
    assert column.words.longest == max((len(text.split()) for text in texts), default=0)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=20), st.integers(0, 5), st.integers(0, 10))
def test_words_are_counted_also_in_a_slice(texts, start, length):
    chosen = pa.array(texts, pa.string()).slice(min(start, len(texts)), length)
    assert count_words(chosen).tolist() == [len(text.split()) for text in chosen.to_pylist()]


def test_no_bin_of_lengths_is_wider_than_a_quarter_of_what_it_holds():
    assert np.all(np.diff(EDGES) <= np.maximum(EDGES[:-1] / 4, 1))
    assert EDGES[-1] > 2**28


def test_quantiles_of_lengths_are_exact_to_a_bin_and_within_the_limits():
    lengths = np.random.default_rng(0).integers(1, 300, 5000)
    table = pa.table({"text": ["x" * int(length) for length in lengths]})
    found = merge_profiles([profile_part(table)]).columns["text"].characters
    assert (found.shortest, found.longest) == (1, 299)
    for fraction in (0.05, 0.5, 0.95):
        exact = np.quantile(lengths, fraction)
        assert exact <= found.quantile(fraction) * 1.01 <= exact * 1.26
    assert found.quantile(1) == 299


def test_quantiles_of_numbers_hold_wherever_the_numbers_lie():
    values = 1_700_000_000 + np.random.default_rng(0).exponential(1000, 20_000)
    parts = [profile_part(pa.table({"time": values[start : start + 1000]})) for start in range(0, 20_000, 1000)]
    found = merge_profiles(parts).columns["time"].numbers
    for fraction in (0.25, 0.5, 0.75):
        rank = np.count_nonzero(values <= found.quantile(fraction)) / len(values)
        assert rank == pytest.approx(fraction, abs=0.02)
    assert found.mean == pytest.approx(values.mean())


def test_numbers_are_counted_between_edges_that_may_lie_beyond_them():
    numbers = merge_profiles([profile_part(pa.table({"x": [1.0] * 60 + [2.0] * 40}))]).columns["x"].numbers
    assert numbers.count_between(np.array([0.5, 1.0, 3.0])) == pytest.approx([0, 60, 40, 0], abs=2)
    assert numbers.count_between(np.array([3.0, 9.0])).tolist() == [100, 0, 0]
    assert numbers.count_between(np.array([-9.0, 0.0])).tolist() == [0, 0, 100]


def test_the_largest_numbers_and_infinity_are_no_trouble():
    table = pa.table({"x": [1.7e308, 1.7e308, float("inf"), float("-inf"), None]})
    profile = merge_profiles([profile_part(table)])
    assert profile.columns["x"].numbers.num_values == 2
    assert profile.columns["x"].numbers.mean == pytest.approx(1.7e308)
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_values_are_counted_most_frequent_first_and_numbers_and_flags_as_text():
    table = pa.table({"label": ["b", "a", "b", None], "grade": [1, 1, 2, 2], "flag": [True, False, True, True]})
    columns = merge_profiles([profile_part(table)]).columns
    assert [*columns["label"].values.items()] == [("b", 2), ("a", 1)]
    assert columns["grade"].values == {"1": 2, "2": 2}
    assert columns["flag"].values == {"true": 3, "false": 1}


def test_too_many_values_are_not_counted_whether_in_one_part_or_over_all():
    half = MAX_VALUES // 2 + 1
    some, others = pa.table({"id": np.arange(half)}), pa.table({"id": np.arange(half, 2 * half)})
    assert len(merge_profiles([profile_part(some)]).columns["id"].values) == half
    assert merge_profiles([profile_part(some), profile_part(others)]).columns["id"].values is None
    late = pa.table({"id": [0] * 2000 + [*range(MAX_VALUES + 1)]})
    assert merge_profiles([profile_part(late)]).columns["id"].values is None


def test_values_that_repeat_are_classes_and_names_are_not():
    table = pa.table({"label": ["a", "b"] * 5, "name": [f"n{number}" for number in range(10)]})
    columns = merge_profiles([profile_part(table)]).columns
    assert columns["label"].is_categorical
    assert not columns["name"].is_categorical


def test_what_is_kept_of_a_chunk_is_a_few_kilobytes():
    words = [f"{'word ' * (number % 50)}{number}" for number in range(4096)]
    labels = [f"the class with number {number % 77}" for number in range(4096)]
    facts = profile_part(pa.table({"text": words, "label": labels, "price": np.random.default_rng(0).random(4096)}))
    assert len(json.dumps(facts)) < 8 * 1024


def test_examples_come_from_all_over_and_are_cut():
    parts = [profile_part(pa.table({"text": [f"{number} {'x' * 500}"] * 4})) for number in range(50)]
    examples = [row["text"] for row in merge_profiles(parts).examples]
    assert [text.split()[0] for text in examples] == ["0", "10", "20", "30", "40"]
    assert {len(text) for text in examples} == {160}
    assert len(merge_profiles(parts[:1]).examples) == 3


def test_no_rows_and_no_values_have_a_profile():
    assert merge_profiles([]).num_rows == 0
    profile = merge_profiles([profile_part(make_table([]))])
    assert profile.columns["price"].numbers is None
    assert profile.columns["text"].words.quantile(0.5) == 0
    nulls = merge_profiles([profile_part(pa.table({"a": pa.nulls(3, pa.string()), "b": pa.nulls(3, pa.int64())}))])
    assert (nulls.columns["a"].num_nulls, nulls.columns["a"].values, nulls.columns["b"].numbers) == (3, {}, None)


def test_duplicates_are_the_rows_that_are_equal_to_an_earlier_one():
    table = pa.table({"text": ["a", "b", "a", "a"], "label": [1, 1, 1, 2]})
    assert count_duplicates(hash_rows(table, ["text", "label"], purpose="test")) == 1
    assert merge_profiles([profile_part(table)], num_duplicates=1).num_duplicates == 1


def test_truncation_is_added_up_over_the_splits():
    facts = {
        "num_rows": {"train": 80, "test": 20}, "num_truncated": {"train": 4, "test": 1},
        "num_dropped": {"train": 0, "test": 2}, "num_tokens_read": {"train": 900, "test": 100},
        "num_tokens_lost": {"train": 40, "test": 2}, "labels": ["no", "yes"],
    }  # fmt: skip
    assert Truncation.from_facts(facts) == Truncation(num_rows=100, num_lost=7, num_tokens=1000, num_tokens_lost=42)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"num_rows": 3}'])
def test_a_profile_that_is_missing_or_of_another_shape_is_none(tmp_path: Path, content):
    if content is not None:
        (tmp_path / PROFILE).write_bytes(content)
    assert read_profile(tmp_path) is None


def test_a_profile_is_read_as_it_was_written(tmp_path: Path):
    profile = merge_profiles([profile_part(make_table([("a b", 1, True, 0.5), (None, None, None, None)]))])
    (tmp_path / PROFILE).write_text(profile.model_dump_json(indent=1))
    assert read_profile(tmp_path) == profile
