import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tunesmith.cli.cells import format_cells, show_value


def test_columns_are_aligned_by_the_places_that_characters_take():
    table = format_cells(["text", "n"], [["日本", 1], ["abc", 22], ["e\u0301", 3]], 80)
    assert table.splitlines() == ["text  n", "日本  1", "abc   22", "e\u0301     3"]


def test_long_texts_are_cut_and_short_columns_are_not():
    table = format_cells(["id", "one", "two"], [["abcdef", "x" * 100, "y" * 100]], 50)
    assert table.splitlines()[1] == f"abcdef  {'x' * 19}…  {'y' * 19}…"


def test_what_would_have_an_effect_on_the_terminal_is_shown_instead():
    assert show_value("a\nb\tc\r\x1b[31m\u202e\u2028") == "a\\nb\\tc\\r\\u001b[31m\\u202e\\u2028"


def test_more_columns_than_there_is_room_for_are_a_list_a_row():
    names = [f"column {number}" for number in range(10)]
    text = format_cells(names, [["some words of text"] * 10] * 2, 40)
    assert text.splitlines()[0] == "column 0  some words of text"
    assert text.count("\n\n") == 1


@given(
    st.integers(1, 6).flatmap(lambda size: st.lists(st.lists(st.text(), min_size=size, max_size=size), min_size=1)),
    st.integers(20, 100),
)
def test_no_line_is_wider_than_the_terminal(rows, width):
    text = format_cells([f"c{number}" for number in range(len(rows[0]))], rows, width)
    assert all(cell_len(line) <= width for line in text.split("\n"))


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (True, "true"), (3, "3"), (0.5, "0.5"), ("", "")])
def test_values_are_shown_as_files_spell_them(value, shown):
    assert show_value(value) == shown
