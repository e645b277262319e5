"""The type of a column, decided from facts that its parts can tell one by one: so a million rows need not meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.columns import CARRIED, LARGEST_EXACT, carry

WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
DECIMAL_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
TRUE_OR_FALSE = r"^(true|false)$"


@dataclass(frozen=True)
class ColumnFacts:
    """What the values of a column are, as far as a type for all of them must know; parts of a column merge.

    Attributes:
        types: The types that its non-null values have: `text`, `whole`, `decimal`, `bool` or `other`.
        numerals: Which of `whole`, `decimal` and `bool` every text could be read as, for a column of text.
        is_whole: Whether every number is whole, and small enough to be exact as a decimal one too.
        is_exact: Whether every whole number is.
        fits: Whether every whole number fits in 64 bits.
    """

    types: frozenset[str] = frozenset()
    numerals: frozenset[str] = frozenset({"whole", "decimal", "bool"})
    is_whole: bool = True
    is_exact: bool = True
    fits: bool = True

    def merge(self, other: ColumnFacts) -> ColumnFacts:
        """The facts of both parts together."""
        return ColumnFacts(
            self.types | other.types,
            self.numerals & other.numerals,
            self.is_whole and other.is_whole,
            self.is_exact and other.is_exact,
            self.fits and other.fits,
        )

    def decide(self) -> pa.DataType:
        """The type for all values, however they are written: so csv, JSON and parquet of the same rows agree.

        Text that is a number in every row becomes numbers, `true` and `false` become bool, decimal numbers that are
        whole in every row become whole numbers. What does not mix, or cannot be held exactly, is carried.
        """
        if not self.types:
            return pa.string()
        if self.types == {"text"}:
            return self._decide_text()
        if self.types == {"bool"}:
            return pa.bool_()
        if self.types == {"whole"}:
            return pa.int64()
        if self.types <= {"whole", "decimal"}:
            return self._decide_decimal()
        return CARRIED

    def keep(self) -> pa.DataType:
        """The type that holds all values as they are written: text stays text, and decimal numbers stay decimal."""
        if self.types == {"text"}:
            return pa.string()
        return pa.float64() if self.types == {"decimal"} else self.decide()

    def settle(self) -> ColumnFacts:
        """The facts of the column once it has the type that is decided for it alone."""
        names = {pa.int64(): "whole", pa.float64(): "decimal", pa.bool_(): "bool"}
        kind = self.decide()
        return replace(self, types=frozenset({names[kind]})) if self.types == {"text"} and kind in names else self

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "types": sorted(self.types), "numerals": sorted(self.numerals)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ColumnFacts:
        """What `as_json` gave."""
        sets = {name: frozenset(values[name]) for name in ("types", "numerals")}
        return cls(**{**values, **sets})

    def _decide_text(self) -> pa.DataType:
        if "whole" in self.numerals:
            return pa.int64() if self.fits else CARRIED
        if "decimal" in self.numerals:
            return self._decide_decimal()
        return pa.bool_() if "bool" in self.numerals else pa.string()

    def _decide_decimal(self) -> pa.DataType:
        if not self.is_exact:
            return CARRIED
        return pa.int64() if self.is_whole else pa.float64()


def describe_column(column: pa.Array | pa.ChunkedArray) -> ColumnFacts:
    """The facts of a column of a canonical type, carried, or of type null."""
    values = column.drop_null()
    kind = values.type
    if len(values) == 0:
        return ColumnFacts()
    if pa.types.is_string(kind):
        return _describe_text(values)
    if pa.types.is_boolean(kind):
        return ColumnFacts(types=frozenset({"bool"}))
    if pa.types.is_integer(kind):
        is_exact = _is_between(values, -LARGEST_EXACT, LARGEST_EXACT)
        return ColumnFacts(types=frozenset({"whole"}), is_whole=is_exact, is_exact=is_exact)
    if pa.types.is_floating(kind):
        return ColumnFacts(types=frozenset({"decimal"}), is_whole=_is_whole(values))
    return ColumnFacts(types=frozenset({"other"}))


def convert(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """A column as the type that was decided for all of its parts."""
    if column.type == kind:
        return column
    if kind == CARRIED:
        parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return pa.chunked_array([carry(part.to_pylist()) for part in parts], CARRIED)
    if pa.types.is_string(column.type) and pa.types.is_integer(kind) and not _all_match(column, WHOLE_NUMBER):
        column = column.cast(pa.float64())
    return column.cast(kind)


def settle(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column that is whole, as the type that its values have."""
    return convert(column, describe_column(column).decide())


def combine(parts: Sequence[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """The parts of a column as one column of the type that all of its values have."""
    facts = ColumnFacts()
    for part in parts:
        facts = facts.merge(describe_column(part))
    return _join(parts, facts.decide())


def unite(parts: Sequence[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """The parts of a column as one column, written as they are: text stays text; what does not mix is carried."""
    types = {part.type for part in parts} - {pa.null()}
    if not types:
        return _join(parts, pa.null())
    if types == {pa.int64(), pa.float64()}:
        is_exact = all(describe_column(part).is_exact for part in parts)
        types = {pa.float64() if is_exact else CARRIED}
    return _join(parts, types.pop() if len(types) == 1 else CARRIED)


def _join(parts: Sequence[pa.Array | pa.ChunkedArray], kind: pa.DataType) -> pa.ChunkedArray:
    chunks: list[pa.Array] = []
    for part in parts:
        converted = convert(part, kind)
        chunks.extend(converted.chunks if isinstance(converted, pa.ChunkedArray) else [converted])
    return pa.chunked_array(chunks, kind)


def _describe_text(values: pa.Array | pa.ChunkedArray) -> ColumnFacts:
    text = frozenset({"text"})
    if _all_match(values, TRUE_OR_FALSE):
        return ColumnFacts(types=text, numerals=frozenset({"bool"}))
    if not _all_match(values, DECIMAL_NUMBER):
        return ColumnFacts(types=text, numerals=frozenset())
    numbers = values.cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py() and not _all_match(values, WHOLE_NUMBER):
        return ColumnFacts(types=text, numerals=frozenset())
    return _describe_numerals(values, numbers)


def _describe_numerals(values: pa.Array | pa.ChunkedArray, numbers: pa.Array | pa.ChunkedArray) -> ColumnFacts:
    is_written_whole = pc.match_substring_regex(values, WHOLE_NUMBER)
    numerals = frozenset({"whole", "decimal"} if pc.all(is_written_whole).as_py() else {"decimal"})
    whole = values.filter(is_written_whole)
    try:
        is_exact, fits = _is_between(whole.cast(pa.int64()), -LARGEST_EXACT, LARGEST_EXACT), True
    except pa.ArrowInvalid:
        is_exact = fits = False
    return ColumnFacts(frozenset({"text"}), numerals, is_exact and _is_whole(numbers), is_exact, fits)


def _is_whole(numbers: pa.Array | pa.ChunkedArray) -> bool:
    is_whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), LARGEST_EXACT))
    return pc.all(is_whole).as_py() is not False


def _is_between(values: pa.Array | pa.ChunkedArray, least: int, most: int) -> bool:
    limits = pc.min_max(values).as_py()
    return limits["min"] is None or (limits["min"] >= least and limits["max"] <= most)


def _all_match(values: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    # Most text columns show in their first rows that they are not numbers.
    return all(
        pc.all(pc.match_substring_regex(part, pattern)).as_py() is not False for part in (values.slice(0, 64), values)
    )
