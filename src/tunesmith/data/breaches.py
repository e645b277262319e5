"""Which rows break a contract, for which reasons, and how that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.column_types import WHOLE_NUMBER
from tunesmith.data.columns import CARRIED, LARGEST_EXACT, shorten, to_values
from tunesmith.data.contract import TYPE_NAMES, ColumnContract, ColumnType, ContractConfig
from tunesmith.data.filters import as_mask, find_out_of_range, find_wrong_length, list_choices
from tunesmith.data.nearest import find_nearest
from tunesmith.data.texts import has_match
from tunesmith.data.values import BoolArray, is_one_of, to_numbers, to_texts
from tunesmith.errors import DataError

MAX_NEW_VALUES = 50
"""How many values outside `allowed` are told apart in one part of the rows."""

MAX_SHOWN_REASONS = 20
MAX_SHOWN_CHARACTERS = 40

Types = Mapping[str, pa.DataType]


class RefusedRow(NamedTuple):
    """A row that breaks the contract.

    Attributes:
        place: Where it came from, such as `reviews.csv:17`.
        reasons: Reasons that `find_breaches` or `describe_repeat` gave.
        row: Its values, by column.
    """

    place: str
    reasons: tuple[str, ...]
    row: Mapping[str, Any]


def check_columns(types: Types, contract: ContractConfig) -> None:
    """Refuse rows whose columns cannot be those of a contract, before any row is looked at.

    Args:
        types: The type of each column over all rows. One of text or of mixed values may hold any type: its rows are
            told apart by `find_breaches`.
        contract: What is promised.

    Raises:
        DataError: Names every column that has vanished, is of another type altogether, or is one too many.
    """
    problems = [*_find_missing(types, contract), *_find_other_types(types, contract), *_find_extra(types, contract)]
    if problems:
        raise DataError(
            f"contract: {'; '.join(problems)}. Columns present: {', '.join(types)}. Correct data.contract, or "
            "the rows: a rename transform gives a column its name back."
        )


def find_breaches(table: pa.Table, contract: ContractConfig) -> dict[str, BoolArray]:
    """Which rows of a part break a contract.

    Args:
        table: Every column of the contract, of any type, carried ones too: a value is judged by itself, and text that
            is a number is one.
        contract: What is promised; `unique` is not looked at, for it is about all rows.

    Returns:
        Reason -> the rows that it holds for, shape (num_rows,); only reasons that hold for some. A row may have
        several, and each begins with the column's name and a colon.
    """
    found: dict[str, BoolArray] = {}
    for name, column in contract.columns.items():
        for reason, mask in _find_in_column(table[name], column):
            if mask.any():
                found[f"{name}: {reason}"] = mask
    return found


def describe_repeat(name: str) -> str:
    """The reason of a row whose value in a unique column is that of an earlier row."""
    return f"{name}: repeats the value of an earlier row"


def describe_breaches(refused: Iterable[RefusedRow]) -> str:
    """What breaks a contract, as a table: rows, reason, first place and the value there; the most frequent first."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, str]] = {}
    for place, reasons, row in refused:
        counts.update(reasons)
        for reason in reasons:
            if reason not in first:
                first[reason] = place, shorten(row[_find_column(reason, row)], MAX_SHOWN_CHARACTERS)
    lines = [("rows", "reason", "first in", "value there")]
    lines += [(f"{number:,}", reason, *first[reason]) for reason, number in counts.most_common(MAX_SHOWN_REASONS)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    shown = ["  ".join([rows.rjust(widths[0]), *map(str.ljust, cells, widths[1:])]).rstrip() for rows, *cells in lines]
    if len(counts) > MAX_SHOWN_REASONS:
        shown.append(f"and {len(counts) - MAX_SHOWN_REASONS:,} more reasons")
    return "\n".join(f"  {line}" for line in shown)


def check_fraction(refused: Iterable[RefusedRow], num_refused: int, num_rows: int, contract: ContractConfig) -> None:
    """Stop where more rows break a contract than it allows.

    Args:
        refused: The rows that break it, in their order.
        num_refused: How many they are.
        num_rows: How many rows there are, with them.
        contract: What is promised.

    Raises:
        DataError: Shows the reasons as a table.
    """
    limit = contract.max_quarantined_fraction
    if num_refused <= limit * num_rows:
        return
    share = f"{num_refused:,} of {num_rows:,} rows ({num_refused / num_rows:.3g} of all)"
    raise DataError(
        f"contract: {share} break it, and data.contract.max_quarantined_fraction allows {limit:g}:\n"
        f"{describe_breaches(refused)}\nCorrect the rows or the contract, or allow a larger fraction: then such rows "
        "go to quarantine, and the run goes on without them."
    )


def _find_column(reason: str, columns: Iterable[str]) -> str:
    return max((name for name in columns if reason.startswith(f"{name}: ")), key=len)


def _find_missing(types: Types, contract: ContractConfig) -> Iterator[str]:
    for name in contract.columns:
        if name not in types:
            unnamed = [other for other in types if other not in contract.columns]
            yield f"column {name!r} is not there.{find_nearest(name, unnamed)}".rstrip(".")


def _find_other_types(types: Types, contract: ContractConfig) -> Iterator[str]:
    for name, column in contract.columns.items():
        kind = _type_name(types[name]) if name in types else None
        if kind is not None and kind != column.type and (kind, column.type) != ("whole", "decimal"):
            held = {"whole": "whole numbers", "decimal": "decimal numbers", "bool": "true/false"}[kind]
            yield f"column {name!r} holds {held} and not {column.type} (`type: {kind}` takes them)"


def _find_extra(types: Types, contract: ContractConfig) -> Iterator[str]:
    extra = [name for name in types if name not in contract.columns]
    if extra and contract.extra_columns == "refuse":
        yield f"there are columns that it does not name: {', '.join(map(repr, extra))}"


def _type_name(kind: pa.DataType) -> ColumnType | None:
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "decimal"
    return "bool" if pa.types.is_boolean(kind) else None


def _find_in_column(column: pa.ChunkedArray, contract: ColumnContract) -> Iterator[tuple[str, BoolArray]]:
    is_valid: BoolArray = column.is_valid().to_numpy()
    if not contract.nullable:
        yield "no value", ~is_valid
    is_typed = is_valid & _has_type(column, contract.type)
    yield f"not {TYPE_NAMES[contract.type]}", is_valid & ~is_typed
    for reason, mask in _find_by_value(column, contract, is_typed):
        yield reason, mask & is_typed


def _find_by_value(
    column: pa.ChunkedArray, contract: ColumnContract, is_typed: BoolArray
) -> Iterator[tuple[str, BoolArray]]:
    if contract.allowed is not None:
        is_new = is_typed & ~is_one_of(column, contract.allowed)
        yield from _name_new_values(to_texts(column).texts, is_new, list_choices(contract.allowed))
    if contract.min is not None or contract.max is not None:
        yield from find_out_of_range(column, contract.min, contract.max)
    if contract.min_length is not None or contract.max_length is not None:
        texts, unit = to_texts(column).texts, contract.unit or "characters"
        yield from find_wrong_length(texts, contract.min_length, contract.max_length, unit)
    if contract.pattern is not None:
        has_pattern = as_mask(has_match(to_texts(column).texts, contract.pattern))
        yield f"does not match {contract.pattern}", ~has_pattern


def _name_new_values(texts: pa.ChunkedArray, is_new: BoolArray, allowed: str) -> Iterator[tuple[str, BoolArray]]:
    if not is_new.any():
        return
    values = pc.unique(texts.filter(pa.array(is_new))).to_pylist()
    named = values[:MAX_NEW_VALUES]
    for value in named:
        yield f"{shorten(value)} is not among {allowed}", is_new & as_mask(pc.equal(texts, value))
    if len(values) > len(named):
        is_named = as_mask(pc.is_in(texts, pa.array(named, pa.string())))
        yield f"not among {allowed}", is_new & ~is_named


def _has_type(column: pa.ChunkedArray, kind: ColumnType) -> BoolArray:
    """Whether each value is of a type, shape (num_rows,); null is of any or none."""
    if kind == "text":
        return _is_text(column)
    if kind == "bool":
        return as_mask(pc.is_in(to_texts(column).texts, pa.array(["true", "false"])))
    numbers = to_numbers(column)
    if kind == "decimal" or pa.types.is_integer(numbers.type):
        return as_mask(pc.is_valid(numbers))
    is_whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), LARGEST_EXACT))
    return as_mask(is_whole) | _fits_in_64_bits(column)


def _is_text(column: pa.ChunkedArray) -> BoolArray:
    if column.type == CARRIED:
        is_text = [isinstance(value, str) for value in to_values(column)]
        return np.array(is_text, dtype=bool) & ~to_texts(column).is_other
    return np.full(len(column), pa.types.is_string(column.type))


def _fits_in_64_bits(column: pa.ChunkedArray) -> BoolArray:
    """Which values are written as whole numbers of at most 64 bits: beyond 2**53 a float cannot tell."""
    texts = to_texts(column).texts
    is_whole = as_mask(pc.match_substring_regex(texts, WHOLE_NUMBER))
    large = np.flatnonzero(is_whole & (pc.utf8_length(texts).fill_null(0).to_numpy() > 18))
    for row, text in zip(large.tolist(), texts.take(pa.array(large)).to_pylist(), strict=True):
        is_whole[row] = -(2**63) <= int(text) < 2**63
    return is_whole
