import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_rows import column_of
from tunesmith.data.breaches import (
    RefusedRow,
    check_columns,
    check_fraction,
    describe_breaches,
    describe_repeat,
    find_breaches,
)
from tunesmith.data.columns import CARRIED
from tunesmith.data.contract import ContractConfig
from tunesmith.errors import DataError


def contract_of(options=None, /, **columns):
    return ContractConfig.model_validate_json(json.dumps({"columns": columns, **(options or {})}))


def breaches_of(values, **column):
    """The reasons of each value, without the column's name."""
    found = find_breaches(pa.table({"a": column_of(*values)}), contract_of(a=column))
    assert all(reason.startswith("a: ") for reason in found)
    return [[reason[3:] for reason, mask in found.items() if mask[row]] for row in range(len(values))]


WHOLE = ["not a whole number"]


@pytest.mark.parametrize(
    ("values", "column", "reasons"),
    [
        (["x", None], {"type": "text"}, [[], ["no value"]]),
        (["x", None], {"type": "text", "nullable": True}, [[], []]),
        (["5", "x", "-3", "007", "1.0", "1.5", "", " 1"], {"type": "whole"},
         [[], WHOLE, [], WHOLE, [], WHOLE, WHOLE, WHOLE]),
        ([5, "6", "x", 2.0, 2.5, True, [1]], {"type": "whole"}, [[], [], WHOLE, [], WHOLE, WHOLE, WHOLE]),
        ([str(2**63 - 1), str(2**63), str(-(2**63)), "9" * 30, "x"], {"type": "whole"}, [[], WHOLE, [], WHOLE, WHOLE]),
        ([2**63, 2**60, "x"], {"type": "whole"}, [WHOLE, [], WHOLE]),
        ([1, 2], {"type": "whole"}, [[], []]),
        ([1.0, 2.5], {"type": "whole"}, [[], WHOLE]),
        ([1.5, 2.0], {"type": "decimal"}, [[], []]),
        (["1", "1.5", "1e999", "x"], {"type": "decimal"}, [[], [], ["not a number"], ["not a number"]]),
        (["true", "yes", "TRUE"], {"type": "bool"}, [[], ["not true or false"], ["not true or false"]]),
        ([True, 1, "x"], {"type": "bool"}, [[], ["not true or false"], ["not true or false"]]),
        (["x", 5, True, [1], None], {"type": "text"}, [[], ["not text"], ["not text"], ["not text"], ["no value"]]),
        (["x", "\ud800"], {"type": "text"}, [[], ["not text"]]),
        ([1, 2], {"type": "text"}, [["not text"], ["not text"]]),
        (["a", "c", None], {"type": "text", "allowed": ["a", "b"]}, [[], ['"c" is not among a, b'], ["no value"]]),
        (["1", "1.0", "3", "x"], {"type": "whole", "allowed": [1, 2]}, [[], [], ['"3" is not among 1, 2'], WHOLE]),
        (["1", "9", "x"], {"type": "whole", "min": 2, "max": 8}, [["below 2"], ["above 8"], WHOLE]),
        ([0.5, 1.0], {"type": "decimal", "min": 0.75}, [["below 0.75"], []]),
        (["ab", "abcd", "a b"], {"type": "text", "min_length": 3, "max_length": 3},
         [["shorter than 3 characters"], ["longer than 3 characters"], []]),
        (["one", "one two"], {"type": "text", "min_length": 2, "unit": "words"}, [["shorter than 2 words"], []]),
        (["ab", "b"], {"type": "text", "pattern": "^a"}, [[], ["does not match ^a"]]),
        (["b"], {"type": "text", "pattern": "a", "min_length": 2}, [["shorter than 2 characters", "does not match a"]]),
        (["1.5", "1"], {"type": "whole", "min": 2}, [WHOLE, ["below 2"]]),
        ([5, None, "x"], {"type": "text", "pattern": "a", "nullable": True}, [["not text"], [], ["does not match a"]]),
        ([None, None], {"type": "whole"}, [["no value"], ["no value"]]),
        ([], {"type": "text", "pattern": "a"}, []),
    ],
)  # fmt: skip
def test_a_value_that_breaks_the_contract_has_its_reasons(values, column, reasons):
    assert breaches_of(values, **column) == reasons


def test_the_rest_of_a_column_with_one_word_among_numbers_is_numbers():
    found = find_breaches(pa.table({"a": column_of("1", "abc", "3")}), contract_of(a={"type": "whole"}))
    assert {reason: mask.tolist() for reason, mask in found.items()} == {"a: not a whole number": [False, True, False]}


def test_only_reasons_that_hold_for_a_row_are_given():
    assert find_breaches(pa.table({"a": column_of("x")}), contract_of(a={"type": "text", "pattern": "x"})) == {}


def test_very_many_new_values_are_not_all_told_apart():
    values = [f"v{number}" for number in range(60)] * 2
    found = find_breaches(pa.table({"a": column_of(*values)}), contract_of(a={"type": "text", "allowed": ["x"]}))
    assert len(found) == 51
    assert found["a: not among x"].sum() == 20
    assert sum(mask.astype(int) for mask in found.values()).tolist() == [1] * 120


COLUMNS = [
    {"type": "text", "min_length": 2},
    {"type": "text", "nullable": True, "allowed": ["a", "1"]},
    {"type": "whole", "min": 0},
    {"type": "whole", "allowed": [1]},
    {"type": "decimal", "max": 1},
    {"type": "bool"},
]


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.none() | st.booleans() | st.text(alphabet="a1.-", max_size=4), max_size=6),
    column=st.sampled_from(COLUMNS),
)
def test_a_row_is_judged_by_itself(values, column):
    assert breaches_of(values, **column) == [breaches_of([value], **column)[0] for value in values]


def test_a_vanished_column_and_one_of_another_type_are_named_together_before_any_row():
    contract = contract_of(
        {"extra_columns": "refuse"}, text={"type": "text"}, stars={"type": "whole"}, id={"type": "text"}
    )
    with pytest.raises(DataError) as caught:
        check_columns({"txt": pa.string(), "stars": pa.float64(), "id": pa.int64(), "x": pa.bool_()}, contract)
    assert str(caught.value) == (
        "contract: column 'text' is not there. Did you mean txt?; column 'stars' holds decimal numbers and not whole "
        "(`type: decimal` takes them); column 'id' holds whole numbers and not text (`type: whole` takes them); there "
        "are columns that it does not name: 'txt', 'x'. Columns present: txt, stars, id, x. Correct data.contract, or "
        "the rows: a rename transform gives a column its name back."
    )


def test_a_column_that_may_hold_the_type_is_judged_row_by_row():
    contract = contract_of(a={"type": "whole"}, b={"type": "decimal"}, c={"type": "bool"}, d={"type": "text"})
    check_columns({"a": pa.string(), "b": pa.int64(), "c": CARRIED, "d": pa.string(), "extra": pa.bool_()}, contract)


def test_the_table_shows_each_reason_with_its_rows_and_the_first_of_them():
    refused = [
        RefusedRow("r.csv:3", ("stars: not a whole number",), {"stars": "abc", "text": "x"}),
        RefusedRow("r.csv:5", ("text: no value", "stars: not a whole number"), {"stars": "d" * 80, "text": None}),
        RefusedRow("r.csv:9", (describe_repeat("text"),), {"stars": 1, "text": "y"}),
    ]
    assert describe_breaches(refused).splitlines() == [
        "  rows  reason                                     first in  value there",
        '     2  stars: not a whole number                  r.csv:3   "abc"',
        "     1  text: no value                             r.csv:5   null",
        '     1  text: repeats the value of an earlier row  r.csv:9   "y"',
    ]


def test_a_long_table_is_cut():
    refused = [RefusedRow(f"r.csv:{n}", (f'a: "{n}" is not among x',), {"a": str(n)}) for n in range(30)]
    lines = describe_breaches(refused).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 10 more reasons"


def test_a_column_whose_name_begins_with_another_and_a_colon_is_found():
    row = RefusedRow("r.csv:1", ("a: b: no value",), {"a": 1, "a: b": 2})
    assert describe_breaches([row]).endswith("2")


def test_more_refused_rows_than_the_contract_allows_stop_the_run_with_the_table():
    refused = [RefusedRow("r.csv:3", ("stars: not a whole number",), {"stars": "abc"})]
    column = {"type": "whole"}
    with pytest.raises(DataError) as caught:
        check_fraction(refused, 1, 200, contract_of(stars=column))
    assert str(caught.value).splitlines() == [
        "contract: 1 of 200 rows (0.005 of all) break it, and data.contract.max_quarantined_fraction allows 0:",
        "  rows  reason                     first in  value there",
        '     1  stars: not a whole number  r.csv:3   "abc"',
        "Correct the rows or the contract, or allow a larger fraction: then such rows go to quarantine, and the run "
        "goes on without them.",
    ]
    check_fraction(refused, 1, 200, contract_of({"max_quarantined_fraction": 0.005}, stars=column))
    check_fraction([], 0, 200, contract_of(stars=column))
