"""Pictures of a snapshot."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tunesmith.data.profile import Profile, merge_profiles, profile_part
from tunesmith.report.data_pictures import MAX_BARS, _gather, draw_classes_png, draw_lengths_png, draw_nulls_png


def make_profile(**columns: list[object]) -> Profile:
    return merge_profiles([profile_part(pa.table(columns))])


def size_of(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG")
    return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])


@pytest.mark.parametrize("num_classes", [1, 2, 77])
def test_classes_have_a_line_each_up_to_a_limit_and_the_picture_fits_a_page(num_classes: int) -> None:
    values = {f"a class with a long name {number}": num_classes - number + 1 for number in range(num_classes)}
    picture = draw_classes_png(values, values, "label")
    width, height = size_of(picture)
    assert width == 640
    assert 12 * min(num_classes, MAX_BARS) < height <= 1400
    assert len(picture) < 80 * 1024


def test_shares_are_of_all_rows_and_what_is_gone_keeps_its_place() -> None:
    now, before = _gather({"a": 3, "b": 1}, {"b": 1, "gone": 1})
    assert now == {"a": 0.75, "b": 0.25, "gone": 0.0}
    assert before == {"a": 0.0, "b": 0.5, "gone": 0.5}


def test_the_rarest_of_many_classes_share_a_bar() -> None:
    now, _ = _gather({f"{number}": 1 for number in range(MAX_BARS + 20)}, None)
    assert len(now) == MAX_BARS + 1
    assert now["20 others"] == pytest.approx(20 / (MAX_BARS + 20))
    assert sum(now.values()) == pytest.approx(1)


def test_a_name_that_looks_like_a_formula_is_drawn_as_it_is() -> None:
    assert size_of(draw_classes_png({"$x^$ {": 1, "": 2, "a\nb": 1}, None, "$"))[0] == 640


def test_lengths_have_a_panel_a_column_and_missing_ones_are_no_error() -> None:
    now = make_profile(text=["a b", None, ""], title=["a", "b", "c d e"])
    one = size_of(draw_lengths_png(now, None, ["text"]))
    two = size_of(draw_lengths_png(now, make_profile(text=["a"]), ["text", "title"]))
    assert two[1] > one[1] > 0


def test_nulls_can_be_drawn_of_columns_that_have_them_or_had_them() -> None:
    now, before = make_profile(a=["x", None], b=["x", "y"], c=["x", "y"]), make_profile(a=["x", "y"], b=[None, "y"])
    assert size_of(draw_nulls_png(now, before))[1] > size_of(draw_nulls_png(now, None))[1]
