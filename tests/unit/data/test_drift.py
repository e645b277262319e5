"""Drift between two snapshots."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.drift import Drift, DriftReport, compare_profiles, log_warnings
from tunesmith.data.profile import Profile, Truncation, merge_profiles, profile_part

RANDOM = np.random.default_rng(0)


def make_profile(num_duplicates: int | None = None, **columns: Any) -> Profile:
    return merge_profiles([profile_part(pa.table(columns))], num_duplicates=num_duplicates)


def make_texts(number: int, mean_words: float) -> list[str]:
    return [f"{'word ' * int(words)}{row}" for row, words in enumerate(RANDOM.poisson(mean_words, number))]


def measure(report: DriftReport, column: str, name: str) -> Drift:
    (found,) = [drift for drift in report.measures if (drift.column, drift.measure) == (column, name)]
    return found


def test_equal_rows_are_stable_in_every_measure_and_warn_of_nothing():
    profile = make_profile(
        4, text=make_texts(500, 9), label=["a", "b"] * 250, price=RANDOM.random(500), gap=["x", None] * 250
    )
    report = compare_profiles(profile, profile)
    assert {(drift.column, drift.measure) for drift in report.measures} == {
        ("", "duplicates"), ("text", "characters"), ("text", "words"), ("label", "classes"), ("price", "numbers"),
        ("gap", "classes"), ("gap", "nulls"),
    }  # fmt: skip
    assert {(drift.psi, drift.total_variation, drift.verdict) for drift in report.measures} == {(0.0, 0.0, "stable")}
    assert report.warnings == ()


def test_other_rows_of_the_same_kind_are_stable():
    before = make_profile(text=make_texts(1000, 9), price=RANDOM.normal(5, 2, 1000), label=RANDOM.integers(0, 77, 1000))
    now = make_profile(text=make_texts(800, 9), price=RANDOM.normal(5, 2, 800), label=RANDOM.integers(0, 77, 800))
    assert compare_profiles(before, now).warnings == ()


def test_a_new_label_and_one_that_is_gone_are_named_with_their_rows():
    report = compare_profiles(make_profile(label=["a", "b"] * 100), make_profile(label=["a"] * 190 + ["new"] * 10))
    assert (report.new_values, report.vanished_values) == ({"label": {"new": 10}}, {"label": {"b": 100}})
    assert "column 'label' has 1 new value: 'new' (10 rows)." in report.warnings
    assert "column 'label' has lost 1 value: 'b' (100 rows)." in report.warnings


def test_a_new_label_is_named_also_where_rows_are_too_few_to_judge_shares():
    report = compare_profiles(make_profile(label=["a", "b"] * 4), make_profile(label=["a", "b", "c", "c"]))
    assert report.warnings == ("column 'label' has 1 new value: 'c' (2 rows).",)
    assert measure(report, "label", "classes").verdict == "too few rows"
    assert not report.is_judged


def test_labels_are_compared_by_value_however_rarely_they_repeat():
    before, now = make_profile(tag=["a", "b", "c"]), make_profile(tag=["a", "b", "d"])
    assert compare_profiles(before, now).warnings == ()
    assert compare_profiles(before, now, labels=["tag"]).new_values == {"tag": {"d": 1}}


def test_many_new_values_are_counted_and_only_some_are_named():
    report = compare_profiles(make_profile(label=[1, 2] * 200), make_profile(label=[*range(3, 53)] * 8))
    (warning,) = [line for line in report.warnings if "new values" in line]
    assert warning.startswith("column 'label' has 50 new values: '10' (8 rows), ")
    assert warning.endswith(" and 40 more.")


def test_a_column_of_classes_that_no_longer_is_one_is_told():
    report = compare_profiles(make_profile(label=["a", "b"] * 500), make_profile(label=make_texts(1000, 3)))
    assert "column 'label' had 2 different values and has too many to count." in report.warnings


def test_columns_that_came_went_or_changed_type_are_named():
    before = make_profile(text=["a"] * 8, title=["b"] * 8, year=["x"] * 8)
    report = compare_profiles(before, make_profile(text=["a"] * 8, name=["b"] * 8, year=[1999] * 8))
    assert report.warnings[:3] == (
        "gone: column 'title'.",
        "new: column 'name'.",
        "column 'year' was string and is int64.",
    )


def test_classes_that_shifted_are_told_with_index_and_what_is_most_frequent():
    report = compare_profiles(make_profile(label=["a", "b"] * 500), make_profile(label=["a"] * 850 + ["b"] * 150))
    drift = measure(report, "label", "classes")
    assert (drift.verdict, drift.total_variation) == ("strongly shifted", 0.35)
    assert drift.psi > 0.25
    (warning,) = report.warnings
    assert warning.startswith(
        f"column 'label': classes strongly shifted (PSI {drift.psi:.2f}): 2 values, most often 'a'"
    )


def test_longer_texts_and_other_numbers_and_more_nulls_are_seen():
    before = make_profile(text=make_texts(1000, 8), price=RANDOM.normal(0, 1, 1000), gap=["x"] * 1000)
    now = make_profile(text=make_texts(1000, 16), price=RANDOM.normal(1, 1, 1000), gap=["x", None] * 500)
    report = compare_profiles(before, now)
    for column, name in (("text", "words"), ("text", "characters"), ("price", "numbers"), ("gap", "nulls")):
        assert measure(report, column, name).verdict == "strongly shifted", name
    assert (measure(report, "gap", "nulls").before, measure(report, "gap", "nulls").now) == ("0.00%", "50.00%")


def test_numbers_with_many_equal_values_are_judged_by_their_shares():
    before = [0.0] * 900 + [*RANDOM.random(100)]
    assert measure(compare_profiles(make_profile(x=before), make_profile(x=before[::-1])), "x", "numbers").psi == 0
    now = [0.0] * 500 + [*RANDOM.random(500)]
    assert measure(compare_profiles(make_profile(x=before), make_profile(x=now)), "x", "numbers").psi > 0.25


def test_duplicates_and_rows_too_long_are_compared_where_both_are_known():
    def cut(lost: int) -> Truncation:
        return Truncation(num_rows=1000, num_lost=lost, num_tokens=9000, num_tokens_lost=lost)

    before = make_profile(10, x=[1] * 1000).model_copy(update={"truncation": cut(1)})
    now = make_profile(600, x=[1] * 1000).model_copy(update={"truncation": cut(500)})
    report = compare_profiles(before, now)
    assert {drift.measure: drift.verdict for drift in report.measures if not drift.column} == {
        "duplicates": "strongly shifted",
        "rows too long": "strongly shifted",
    }
    unknown = make_profile(None, x=[1] * 1000)
    assert [drift for drift in compare_profiles(unknown, now).measures if not drift.column] == []


def test_a_snapshot_that_lost_most_of_its_rows_is_warned_of():
    report = compare_profiles(make_profile(x=[1] * 1000), make_profile(x=[1] * 400))
    assert report.warnings == ("400 rows, less than half of the 1,000 of before.",)


def test_hundreds_of_warnings_are_cut_and_counted():
    before = make_profile(**{f"c{number}": ["a"] * 8 for number in range(30)})
    now = make_profile(**{f"c{number}": ["b"] * 8 for number in range(30)})
    report = compare_profiles(before, now)
    assert len(report.warnings) == 20
    assert report.warnings[-1] == "and 41 more warnings."


def test_warnings_are_logged_with_what_was_compared(caplog):
    report = compare_profiles(make_profile(a=[1]), make_profile(b=[1]), against="the last snapshot")
    with caplog.at_level(logging.WARNING):
        log_warnings([report])
    assert "snapshot, against the last snapshot: gone: column 'a'." in caplog.messages


def test_a_report_survives_json():
    report = compare_profiles(make_profile(a=[1], x=["p"]), make_profile(a=["x"], y=["q"]))
    assert DriftReport.model_validate_json(report.model_dump_json()) == report
