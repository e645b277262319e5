import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from tunesmith.data.cleaning import apply_transforms
from tunesmith.data.columns import CARRIED, from_values
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.transforms import Transform
from tunesmith.errors import DataError

adapter = TypeAdapter(tuple[Transform, ...])


def rows_of(**columns):
    table = pa.table({name: from_values(values) for name, values in columns.items()})
    numbers = np.arange(2, table.num_rows + 2)
    return Rows(table, Origins(("f:",), np.zeros(table.num_rows, np.int32), numbers))


def apply(rows, *transforms, folder=Path()):
    return apply_transforms(rows, adapter.validate_json(json.dumps(transforms), context={"folder": folder}))


def test_rename_changes_names_and_may_swap_them():
    rows, dropped = apply(rows_of(a=["x"], b=["y"]), {"rename": {"a": "b", "b": "a"}})
    assert rows.table.to_pydict() == {"b": ["x"], "a": ["y"]}
    assert dropped == {}


def test_drop_null_says_which_column_had_none():
    rows, dropped = apply(rows_of(a=["x", None, None, "w"], b=[1, 2, None, None]), {"drop_null": ["a", "b"]})
    assert rows.table.to_pydict() == {"a": ["x"], "b": [1]}
    assert dropped == {"no a": 2, "no b": 1}
    assert rows.origins(0) == "f:2"


def test_drop_duplicates_keeps_the_first_of_each():
    rows, dropped = apply(rows_of(a=["x", None, "x", None, "y"], b=[1, 2, 3, 4, 5]), {"drop_duplicates": ["a"]})
    assert rows.table["b"].to_pylist() == [1, 2, 5]
    assert dropped == {"duplicate a": 2}
    assert [rows.origins(row) for row in range(3)] == ["f:2", "f:3", "f:6"]


def test_drop_duplicates_compares_carried_values_too():
    rows, _ = apply(rows_of(a=[["x"], ["x"], ["y"]]), {"drop_duplicates": ["a"]})
    assert len(rows.origins.numbers) == 2


@pytest.mark.parametrize(("unit", "lengths"), [("words", [3, 0, None]), ("characters", [11, 0, None])])
def test_derive_length_counts_words_or_characters(unit, lengths):
    column = {"column": "a", "into": "n", "unit": unit}
    rows, _ = apply(rows_of(a=[" één  b\tc\n ", "", None]), {"derive_length": column})
    assert rows.table["n"].to_pylist() == lengths


def test_select_keeps_the_first_rows_and_some_columns():
    rows, dropped = apply(
        rows_of(a=["x", "y", "z"], b=[1, 2, 3], c=[[1]] * 3), {"select": {"first": 2, "columns": ["b", "a"]}}
    )
    assert rows.table.to_pydict() == {"b": [1, 2], "a": ["x", "y"]}
    assert dropped == {"beyond the first 2": 1}
    assert apply(rows_of(a=["x"]), {"select": {"first": 5}})[1] == {}


def test_shuffle_is_the_same_for_a_seed_and_for_ever_and_takes_the_origins_along():
    rows, _ = apply(rows_of(a=list("abcdefgh")), {"shuffle": {"seed": 0}})
    assert "".join(rows.table["a"].to_pylist()) == "gcbhdafe"
    assert [rows.origins(row) for row in range(2)] == ["f:8", "f:4"]
    assert apply(rows_of(a=list("abcdefgh")), {"shuffle": {"seed": 1}})[0].table["a"].to_pylist() != list("gcbhdafe")


def test_transforms_are_applied_in_their_order_and_account_for_every_row():
    rows = rows_of(a=["x", "x", None, "y", "z"])
    transforms = [{"drop_duplicates": ["a"]}, {"drop_null": ["a"]}, {"select": {"first": 2}}]
    left, dropped = apply(rows, *transforms)
    assert dropped == {"duplicate a": 1, "no a": 1, "beyond the first 2": 1}
    assert left.table.num_rows + dropped.total() == 5
    assert apply(rows, *reversed(transforms))[1] == {"beyond the first 2": 3, "duplicate a": 1}


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([{"rename": {"txt": "b"}}], r"rename: there is no column 'txt' at this point .*present: text, b.*mean text\?"),
        ([{"rename": {"text": "b"}}], "rename: two columns would be called 'b'"),
        ([{"drop_null": ["label"]}], "drop_null: there is no column 'label'"),
        ([{"drop_duplicates": ["label"]}], "drop_duplicates: there is no column 'label'"),
        ([{"select": {"columns": ["label"]}}], "select: there is no column 'label'"),
        ([{"derive_length": {"column": "txt", "into": "n"}}], "derive_length: there is no column 'txt'"),
        ([{"derive_length": {"column": "text", "into": "b"}}], "derive_length: there is a column 'b' already"),
        ([{"derive_length": {"column": "b", "into": "n"}}], r"derive_length: column 'b' is not text \(first: 1\)"),
        ([{"rename": {"text": "t"}}, {"drop_null": ["text"]}], "drop_null: .*columns present: t, b"),
        ([{"drop_null": ["b", "text"]}], r"drop_null: drops all of the 2 rows that reach it \(no b, no text\)"),
    ],
)
def test_a_transform_that_cannot_be_applied_says_what_there_is(transforms, expected):
    with pytest.raises(DataError, match=expected):
        apply(
            rows_of(text=["x", None], b=[1, None] if "b" not in transforms[0].get("drop_null", []) else [None, 1]),
            *transforms,
        )


def test_a_function_changes_adds_and_drops_rows_and_its_columns_are_typed(tmp_path):
    (tmp_path / "cleaning.py").write_text(
        "def fix(row):\n"
        "    if row['stars'] == 3:\n"
        "        return None\n"
        "    return {'text': ' '.join(row['words']), 'label': str(row['stars']), 'extra': [1]}\n"
    )
    rows = rows_of(words=[["a", "b"], ["c"], ["d"]], stars=[1, 3, 5])
    left, dropped = apply(rows, {"function": {"path": "cleaning:fix"}}, folder=tmp_path)
    assert left.table.select(["text", "label"]).to_pydict() == {"text": ["a b", "d"], "label": [1, 5]}
    assert left.table["extra"].type == CARRIED
    assert dropped == {"function cleaning:fix": 1}
    assert left.origins(1) == "f:4"
