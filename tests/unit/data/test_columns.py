import json
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.column_types import combine, settle
from tunesmith.data.columns import CARRIED, carry, from_arrow, from_values, refuse_carried, to_values
from tunesmith.errors import DataError


def column(*values):
    return settle(combine([from_values(values)]))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], "string"),
        ([1, None], "int64"),
        ([1, 0.5], "double"),
        ([True, None], "bool"),
        ([None, None], "string"),
        (["1", "-20", "0", None], "int64"),
        (["1", "0.5", "1e-5", "-2.0E3"], "double"),
        (["true", "false"], "bool"),
        ([1.0, 2.0], "int64"),
        (["1.0", "2.0"], "int64"),
        (["007", "1"], "string"),
        (["1", ""], "string"),
        (["1", " 2"], "string"),
        (["+1"], "string"),
        (["1e999"], "string"),
        (["nan", "1"], "string"),
        (["True", "False"], "string"),
        (["1_000"], "string"),
        (["1"] * 100 + ["x"], "string"),
        ([float("inf"), 1.0], "double"),
        ([1e300, 2.0], "double"),
        ([2.0**53, -(2.0**40)], "int64"),
        ([2.0**54], "double"),
    ],
)
def test_a_column_has_the_type_of_its_values_however_they_are_written(values, kind):
    assert str(column(*values).type) == kind


def test_numbers_keep_their_value_to_the_last_bit():
    assert column(str(2**63 - 1), str(-(2**63))).to_pylist() == [2**63 - 1, -(2**63)]
    assert column("0.1", "1e-320").to_pylist() == [0.1, 1e-320]


def test_python_values_with_a_plain_form_get_it():
    values = [date(2024, 1, 2), None], [datetime(2024, 1, 2, 3)], [Decimal("2"), Decimal("0.5")], [np.int32(3)]
    assert [column(*some).to_pylist() for some in values] == [
        ["2024-01-02", None],
        ["2024-01-02T03:00:00"],
        [2.0, 0.5],
        [3],
    ]


def test_parts_of_whole_and_decimal_numbers_are_decimal():
    parts = [from_values([1, 2]), from_values([None, None]), from_values([0.5])]
    assert combine(parts).to_pylist() == [1.0, 2.0, None, None, 0.5]


@pytest.mark.parametrize(
    "values",
    [["a", 1], [1, True], [0.5, True], [[1], None], [{"a": [1]}], [2**63], [2**53 + 1, 0.5], ["\ud800"]],
)
def test_values_without_a_canonical_type_are_carried_unchanged(values):
    carried = column(*values)
    assert carried.type == CARRIED
    assert to_values(carried) == values


def test_parts_of_different_types_are_carried_together():
    carried = combine([from_values(["a"]), from_values([1]), from_values([[2]])])
    assert to_values(carried) == ["a", 1, [2]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", 3, None], r"column 'x' mixes types \(text in f:0: \"a\"; whole number in f:2: 3\)"),
        ([True, 1], "mixes types .true/false in f:0: true; whole number in f:1: 1"),
        ([None, ["a"] * 50], r"f:1: column 'x' holds a list, \[\"a\",.*\.\.\..*select"),
        ([{"a": 1}], "f:0: column 'x' holds an object, "),
        ([1, 2**63], "f:1: column 'x': 9223372036854775808 cannot be held exactly.*64 bits"),
        (["1", "-99999999999999999999"], "f:1: column 'x': .*99999999999999999999. cannot be held"),
        ([0.5, 2**53 + 1], "f:1: column 'x': 9007199254740993 cannot be held"),
        (["a", "\ud800"], "f:1: column 'x': .*cannot be held exactly"),
    ],
)
def test_a_carried_column_is_refused_with_its_rows_and_values(values, expected):
    with pytest.raises(DataError, match=expected):
        refuse_carried(pa.table({"y": ["a"] * len(values), "x": column(*values)}), lambda row: f"f:{row}")


def test_a_carried_column_of_one_type_is_refused_with_a_value():
    with pytest.raises(DataError, match="f:1: column 'x': its values, such as \"a\", have no type together"):
        refuse_carried(pa.table({"x": carry([None, "a"])}), lambda row: f"f:{row}")


def test_a_message_can_always_be_written_as_utf_8():
    with pytest.raises(DataError) as caught:
        refuse_carried(pa.table({"x": column("\ud800")}), lambda row: f"f:{row}")
    str(caught.value).encode()


@pytest.mark.parametrize(
    "array",
    [
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([b"\xff"], pa.binary()),
        pa.array([[1]], pa.list_(pa.int64())),
        pa.array([[b"x"]], pa.list_(pa.binary())),
        pa.array([{"a": None}], pa.struct([("a", pa.date32())])),
        pa.array([5], pa.duration("s")),
    ],
)
def test_arrow_values_without_a_canonical_type_are_carried(array):
    assert from_arrow(pa.chunked_array([array])).type == CARRIED


def test_parquet_text_that_is_not_utf_8_is_invalid():
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
    with pytest.raises(pa.ArrowInvalid):
        from_arrow(pa.chunked_array([broken]))


def test_carried_json_is_json():
    assert json.loads(column([1, "é"]).to_pylist()[0]) == [1, "é"]
