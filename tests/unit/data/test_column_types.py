import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.column_types import ColumnFacts, convert, describe_column
from tunesmith.data.columns import from_values

whole, odd = st.integers(-(2**65), 2**65).map(str), st.sampled_from(["true", "x", "", "01"])
numerals = st.one_of(whole, st.floats().map(repr), odd)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans())
values = st.one_of(st.none(), st.text(max_size=3), numerals, numbers)
kinds = (values, numerals, st.integers(-9, 9))
columns = st.one_of(*(st.lists(st.one_of(st.none(), kind), max_size=6) for kind in kinds))


def describe(some):
    return describe_column(from_values(some))


@given(st.lists(columns, min_size=1, max_size=4))
def test_the_facts_of_parts_merge_to_one_type_in_any_order(parts):
    merged, backwards = ColumnFacts(), ColumnFacts()
    for part in parts:
        merged = merged.merge(describe(part))
        backwards = describe(part).merge(backwards)
    assert merged == backwards
    assert ColumnFacts.from_json(merged.as_json()) == merged
    converted = [convert(from_values(part), merged.decide()) for part in parts]
    assert {part.type for part in converted} == {merged.decide()}
    assert sum(part.null_count for part in converted) == sum(value is None for part in parts for value in part)


@given(st.lists(st.one_of(numerals, st.none()), max_size=8), st.integers(0, 8))
def test_a_cut_anywhere_leaves_the_type_as_it_is(some, cut):
    whole = describe_column(pa.array(some, pa.string()))
    parts = [pa.array(part, pa.string()) for part in (some[:cut], some[cut:])]
    assert describe_column(parts[0]).merge(describe_column(parts[1])).decide() == whole.decide()
