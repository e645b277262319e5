"""The page of a snapshot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.drift import compare_profiles
from tunesmith.data.earlier import LAST, Earlier
from tunesmith.data.profile import Profile, Truncation, merge_profiles, profile_part
from tunesmith.report.profile_page import ProfilePage, choose_classes, render_profile, write_profile


def make_profile(**columns: Any) -> Profile:
    return merge_profiles([profile_part(pa.table(columns))], num_duplicates=3)


TEXTS = [f"text {number} | <b>" + " word" * (number % 7) for number in range(200)]
NOW = make_profile(text=TEXTS, label=["yes", "no"] * 100)
BEFORE = make_profile(text=TEXTS, label=["yes", "maybe"] * 100, title=pa.nulls(200, pa.string()))


def test_the_page_says_rows_duplicates_truncation_columns_and_classes() -> None:
    cut = Truncation(num_rows=200, num_lost=10, num_tokens=4000, num_tokens_lost=40)
    page = render_profile(NOW.model_copy(update={"truncation": cut}), [], ["label"])
    assert (
        "200 rows; 3 of them exact duplicates of an earlier row (1.50%); 10 of 200 encoded rows too long (40 of" in page
    )
    assert "| label | string | 0 | 2 different values |" in page
    assert "| no | 100 | 50.00% |" in page
    assert "There is no earlier snapshot of this recipe to compare with." in page


def test_the_page_warns_in_words_and_shows_every_measure() -> None:
    page = render_profile(NOW, [compare_profiles(BEFORE, NOW)])
    assert "### Against the last snapshot: 200 rows, now 200" in page
    assert "- **gone: column 'title'.**" in page
    assert "- **column 'label' has 1 new value: 'no' (100 rows).**" in page
    assert "| text | words |" in page


def test_the_label_is_shown_before_other_classes() -> None:
    profile = make_profile(source=["web", "shop"] * 100, label=["yes", "no"] * 100)
    assert choose_classes(profile) == "source"
    assert choose_classes(profile, ["label"]) == "label"
    assert choose_classes(make_profile(text=[f"{number} one" for number in range(9)])) is None


def test_what_is_written_is_read_back_and_the_tables_are_as_mlflow_takes_them(tmp_path: Path) -> None:
    warnings = write_profile(tmp_path, NOW, [Earlier(LAST, "0" * 32, BEFORE)], ["label"])
    assert "Against the last snapshot: gone: column 'title'." in warnings
    page = ProfilePage.read(tmp_path)
    assert page is not None
    assert set(page.pictures) == {"classes", "lengths", "nulls"}
    assert "gone: column 'title'" in page.markdown
    folder = tmp_path / "profile"
    assert Profile.model_validate_json((folder / "profile.json").read_bytes()) == NOW
    for name in ("columns.json", "drift.json"):
        table = json.loads((folder / name).read_bytes())
        assert {len(row) for row in table["data"]} == {len(table["columns"])}


def test_where_nothing_was_written_there_is_no_page(tmp_path: Path) -> None:
    assert ProfilePage.read(tmp_path) is None


def test_hundreds_of_columns_and_long_names_leave_room_for_the_rest_of_the_page() -> None:
    wide = make_profile(**{f"column {number} " + "x" * 300: ["a" * 300, "b"] * 60 for number in range(300)})
    other = make_profile(**{f"column {number} " + "x" * 300: ["c" * 300, "d"] * 60 for number in range(300)})
    reports = [compare_profiles(other, wide)] * 2
    assert len(render_profile(wide, reports).encode()) < 100 * 1024
