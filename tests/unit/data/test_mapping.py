import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_rows import apply, lines_of, read_transform, rows_of, values_of
from tunesmith.data.columns import CARRIED
from tunesmith.data.mapping import apply_local
from tunesmith.data.origins import Origins, Rows
from tunesmith.errors import DataError


def test_rename_changes_names_and_may_swap_them():
    rows, dropped = apply(rows_of(a=["x"], b=["y"]), {"rename": {"a": "b", "b": "a"}})
    assert values_of(rows) == {"b": ["x"], "a": ["y"]}
    assert dropped == {}


def test_columns_are_selected_in_the_order_given_and_removed():
    rows = rows_of(a=["x", "y"], b=[1, 2], c=[[1], [2]])
    assert list(values_of(apply(rows, {"select_columns": ["b", "a", "b"]})[0]).items()) == [
        ("b", [1, 2]),
        ("a", ["x", "y"]),
    ]
    assert values_of(apply(rows, {"remove_columns": ["c", "b"]})[0]) == {"a": ["x", "y"]}


def test_drop_null_counts_each_row_once_for_the_first_column_without_a_value():
    rows, dropped = apply(rows_of(a=["x", None, None, "w"], b=[1, 2, None, None]), {"drop_null": ["a", "b"]})
    assert values_of(rows) == {"a": ["x"], "b": [1]}
    assert dropped == {"no a": 2, "no b": 1}
    assert lines_of(rows) == [2]


def test_a_filter_drops_rows_with_their_reasons_and_takes_the_origins_along():
    rows = rows_of(a=["one two three", "one", None, "four five six", "one two"], b=[1, 2, 3, 4, 5])
    left, dropped = apply(rows, {"filter": {"column": "a", "words": {"min": 3}, "not_matches": "four"}})
    assert values_of(left) == {"a": ["one two three"], "b": [1]}
    assert dropped == {"no a": 1, "a shorter than 3 words": 2, "a matches four": 1}
    assert lines_of(left) == [2]


def test_map_works_on_each_column_that_it_names():
    rows, _ = apply(rows_of(a=[" A "], b=[" B "], c=[" C "]), {"map": {"b": ["strip"], "a": ["strip", "lower"]}})
    assert values_of(rows) == {"a": ["a"], "b": ["B"], "c": [" C "]}


def test_explode_makes_a_row_of_each_item_from_the_same_line():
    rows = rows_of(a=["x", "y", "z", "w"], tags=[["p", "q"], [], None, [1]], n=[1, 2, 3, 4])
    left, dropped = apply(rows, {"explode": ["tags"]})
    assert values_of(left) == {"a": ["x", "x", "w"], "tags": ["p", "q", 1], "n": [1, 1, 4]}
    assert dropped == {"empty list in tags": 1, "no tags": 1}
    assert lines_of(left) == [2, 2, 5]
    assert left.table.column_names == rows.table.column_names


def test_explode_takes_several_lists_apart_side_by_side():
    rows = rows_of(tokens=[["a", "b"], ["c"]], tags=[[0, 1], [2]])
    assert values_of(apply(rows, {"explode": ["tokens", "tags"]})[0]) == {"tokens": ["a", "b", "c"], "tags": [0, 1, 2]}


def test_items_of_one_type_are_of_that_type():
    exploded, _ = apply(rows_of(a=[["p", None], ["q"]], b=["x", "y"]), {"explode": ["a"]})
    assert exploded.table["a"].type == pa.string()
    assert apply(rows_of(a=[[[1]], [[2], "x"]]), {"explode": ["a"]})[0].table["a"].type == CARRIED


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": [["x"], "y"]}, r"^f:3: transform explode: column 'a' holds \"y\", which is no list"),
        ({"a": [["x"], {"y": 1}]}, r"^f:3: .* which is no list"),
        ({"a": [[1], [2, 3]], "b": [[1], [2]]}, r"^f:3: .* different lengths \(2 in 'a', 1 in 'b'\)"),
    ],
)
def test_what_cannot_be_exploded_is_named_with_its_row(columns, expected):
    with pytest.raises(DataError, match=expected):
        apply(rows_of(**columns), {"explode": list(columns)})


def test_a_sample_of_a_fraction_depends_on_each_row_alone():
    rows = rows_of(a=[f"row {number}" for number in range(2000)])
    kept, dropped = apply(rows, {"sample": {"fraction": 0.25}})
    assert 400 < kept.table.num_rows < 600
    assert dropped == {"outside the sample of 0.25": 2000 - kept.table.num_rows}
    backwards = apply(rows.take(np.arange(2000)[::-1]), {"sample": {"fraction": 0.25}})[0]
    assert sorted(values_of(backwards)["a"]) == sorted(values_of(kept)["a"])
    more = apply(rows, {"sample": {"fraction": 0.5}})[0]
    assert set(values_of(kept)["a"]) < set(values_of(more)["a"])
    other = apply(rows, {"sample": {"fraction": 0.25, "seed": 1}})[0]
    assert values_of(other)["a"] != values_of(kept)["a"]


def test_a_sample_is_of_lists_and_mixed_values_too():
    rows = rows_of(a=[[number] for number in range(50)], b=[*range(25), *"abcdefghijklmnopqrstuvwxy"])
    kept, dropped = apply(rows, {"sample": {"fraction": 0.5}})
    assert 0 < kept.table.num_rows == 50 - sum(dropped.values()) < 50


@pytest.mark.parametrize("num_rows", [0, 2])
@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"rename": {"txt": "c"}}, r"rename: there is no column 'txt' at this point .*present: text, b.*mean text\?"),
        ({"rename": {"text": "b"}}, "rename: two columns would be called 'b'"),
        ({"drop_null": ["label"]}, "drop_null: there is no column 'label'"),
        ({"select_columns": ["Text"]}, r"select_columns: there is no column 'Text' .* Did you mean text\?"),
        ({"remove_columns": ["c"]}, "remove_columns: there is no column 'c'"),
        ({"remove_columns": ["b", "text"]}, "remove_columns: leaves no column"),
        ({"filter": {"column": "c", "is_null": False}}, "filter: there is no column 'c'"),
        ({"map": {"text": ["strip"], "c": ["strip"]}}, "map: there is no column 'c'"),
        ({"derive": {"into": "n", "length_of": "txt"}}, "derive: there is no column 'txt'"),
        ({"explode": ["text", "c"]}, "explode: there is no column 'c'"),
    ],
)
def test_a_transform_of_a_missing_column_says_what_there_is_even_without_rows(transform, expected, num_rows):
    with pytest.raises(DataError, match=expected):
        apply(rows_of(text=["x", None], b=[1, None]).take(np.arange(num_rows)), transform)


LOCAL = [
    {"rename": {"a": "z"}},
    {"select_columns": ["a"]},
    {"remove_columns": ["b"]},
    {"drop_null": ["a", "b"]},
    {"filter": {"column": "a", "words": {"max": 1}}},
    {"filter": {"column": "b", "range": {"min": 1}}},
    {"map": {"a": ["strip", "lower", {"replace": "a", "by": "aa"}], "b": [{"values": {1: "x"}, "others": "keep"}]}},
    {"derive": {"into": "n", "template": "{a} {b}"}},
    {"derive": {"into": "n", "length_of": "a"}},
    {"explode": ["c"]},
    {"sample": {"fraction": 0.5}},
]
EXPLODE = {"explode": ["c"]}

some_rows = st.lists(
    st.tuples(
        st.none() | st.text(alphabet="aB é\u00a0", max_size=5),
        st.none() | st.integers(-2, 2) | st.sampled_from(["1", "x"]),
        st.none() | st.lists(st.integers(0, 3) | st.text(alphabet="pq", max_size=2), max_size=3),
    ),
    max_size=8,
)


def described(rows):
    return list(zip(lines_of(rows), *values_of(rows).values(), strict=True))


@settings(deadline=None, max_examples=60)
@given(rows=some_rows, transform=st.sampled_from(LOCAL), cut=st.integers(0, 8))
def test_part_by_part_gives_the_rows_and_the_account_of_the_whole(rows, transform, cut):
    whole = rows_of(**{name: [row[index] for row in rows] for index, name in enumerate("abc")})
    cut = min(cut, len(rows))
    parts = [whole.take(np.arange(0, cut)), whole.take(np.arange(cut, len(rows)))]
    left, dropped = apply(whole, transform)
    done = [apply(part, transform) for part in parts]
    assert described(left) == [row for part, _ in done for row in described(part)]
    together = {reason: sum(found.get(reason, 0) for _, found in done) for _, found in done for reason in found}
    assert dropped == together
    added = sum(max(0, len(row[2] or ()) - 1) for row in rows) if transform == EXPLODE else 0
    assert len(rows) + added == left.table.num_rows + sum(dropped.values())


def test_where_not_even_a_column_is_known_nothing_is_done():
    nothing = Rows(pa.table({}), Origins(("f:",), np.zeros(0, np.int32), np.zeros(0, np.int64)))
    for transform in LOCAL:
        assert apply(nothing, transform) == (nothing, {})


@pytest.mark.parametrize(
    "transform", [{"take": 1}, {"shuffle": {}}, {"drop_duplicates": ["a"]}, {"sample": {"num_rows": 1}}]
)
def test_a_transform_that_looks_at_all_rows_is_not_for_a_part(transform):
    with pytest.raises(TypeError, match="looks at all rows"):
        apply_local(rows_of(a=["x"]), read_transform(transform))
