"""Slices of the test rows: by a column's values, by ranges, by text length, by conditions, by a function of yours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Field, Tag, model_validator

from tunesmith.data.filters import FilterOptions, as_mask, find_dropped, write_limit
from tunesmith.data.function_calls import call_function
from tunesmith.data.functions import FunctionOptions, function_digest
from tunesmith.data.nearest import find_nearest
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.texts import measure_length
from tunesmith.data.values import BoolArray, to_numbers, to_texts
from tunesmith.errors import DataError
from tunesmith.section import Section

MAX_VALUES = 50
"""Most slices that the values of one column make: more are no slices, but examples."""

ROW = "_tunesmith_row"
Name = Annotated[str, Field(min_length=1, max_length=100)]


class ByColumn(Section):
    """A slice for each value of a column, or for each range of it."""

    by: str
    """The column."""
    measure: Literal["words", "characters"] | None = None
    """Of a text column: how many words or characters it has; only with `bounds`."""
    bounds: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Where one range ends and the next begins: [10, 30] makes below 10, 10 to 30 (without 30), and from 30."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.measure is not None and self.bounds is None:
            raise ValueError("measure needs `bounds`, the lengths where one slice ends and the next begins")
        if self.bounds is not None and list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError("bounds must be in ascending order, each once")
        return self


class Where(Section):
    """The rows that conditions keep."""

    name: Name
    """What the slice is called."""
    where: Annotated[tuple[FilterOptions, ...], Field(min_length=1)]
    """Conditions as of the transform `filter`; all of them hold in the slice."""


class ByFunction(Section):
    """The rows that a function of yours returns."""

    name: Name
    """What the slice is called."""
    function: FunctionOptions
    """The function: it gets a row as a dict, and returns it where it is in the slice, else None."""


def _slice_kind(value: object) -> str | None:
    names = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Section) else ()
    return next((kind for kind in ("by", "where", "function") if kind in names), None)


SliceOptions = Annotated[
    Annotated[ByColumn, Tag("by")] | Annotated[Where, Tag("where")] | Annotated[ByFunction, Tag("function")],
    Discriminator(
        _slice_kind,
        custom_error_type="slice",
        custom_error_message="a slice needs `by` (a column), `where` (conditions) or `function`",
    ),
]
"""One entry of `evaluate.slices`; it may make several slices."""


def digest_slices(slices: Sequence[SliceOptions]) -> dict[str, str]:
    """The source of each function that makes a slice, as a digest: part of the key of what is measured on it."""
    return {
        f"function {options.function.path}": function_digest(options.function)
        for options in slices
        if isinstance(options, ByFunction)
    }


def find_slices(table: pa.Table, slices: Sequence[SliceOptions]) -> dict[str, BoolArray]:
    """Which rows are in which slice.

    Args:
        table: The test rows, with a `row_id`.
        slices: The slices of the recipe.

    Returns:
        The name of each slice, and whether each row is in it, shape (num_rows,).

    Raises:
        DataError: A column is missing or has too many values, a slice is empty or named twice, or a function fails.
    """
    found: dict[str, BoolArray] = {}
    for number, options in enumerate(slices):
        place = f"evaluate.slices[{number}]"
        for name, is_in in _find(table, options, place):
            if name in found:
                raise DataError(f"{place}: there is a slice {name!r} already; each needs a name of its own.")
            if not is_in.any():
                raise DataError(
                    f"{place}: the slice {name!r} matches none of the {table.num_rows:,} test rows. Correct it, or "
                    "leave it out."
                )
            found[name] = is_in
    return found


def _find(table: pa.Table, options: SliceOptions, place: str) -> Iterator[tuple[str, BoolArray]]:
    match options:
        case ByColumn():
            column = _get(table, options.by, place)
            yield from _by_values(column, options, place) if options.bounds is None else _by_ranges(column, options)
        case Where():
            is_in = np.ones(table.num_rows, dtype=bool)
            for condition in options.where:
                for _, is_dropped in find_dropped(_get(table, condition.column, place), condition):
                    is_in &= ~is_dropped
            yield options.name, is_in
        case ByFunction():
            yield options.name, _call(table, options.function, place)


def _by_values(column: pa.ChunkedArray, options: ByColumn, place: str) -> Iterator[tuple[str, BoolArray]]:
    texts = to_texts(column).texts
    counts = {item["values"]: item["counts"] for item in pc.value_counts(texts).to_pylist()}
    if len(counts) > MAX_VALUES:
        raise DataError(
            f"{place}: column {options.by!r} has {len(counts):,} values in the test rows; a column makes {MAX_VALUES} "
            "slices at most. Give `bounds`, or name the slices that matter with `where`."
        )
    for value in sorted(counts, key=lambda value: (value is None, -counts[value], str(value))):
        is_in = pc.is_null(texts) if value is None else pc.equal(texts, value)
        yield f"{options.by}: {'no value' if value is None else value}", as_mask(is_in)


def _by_ranges(column: pa.ChunkedArray, options: ByColumn) -> Iterator[tuple[str, BoolArray]]:
    assert options.bounds is not None
    numbers = to_numbers(column) if options.measure is None else measure_length(to_texts(column).texts, options.measure)
    name = options.by if options.measure is None else f"{options.measure} of {options.by}"
    first, last = options.bounds[0], options.bounds[-1]
    yield f"{name}: below {write_limit(first)}", as_mask(pc.less(numbers, first))
    for low, high in pairwise(options.bounds):
        is_in = pc.and_(pc.greater_equal(numbers, low), pc.less(numbers, high))
        yield f"{name}: {write_limit(low)} to {write_limit(high)}", as_mask(is_in)
    yield f"{name}: from {write_limit(last)}", as_mask(pc.greater_equal(numbers, last))


def _call(table: pa.Table, function: FunctionOptions, place: str) -> BoolArray:
    numbers = np.arange(table.num_rows)
    given = table.append_column(ROW, pa.array(numbers))
    origins = Origins((f"{place}: test row ",), np.zeros(len(numbers), np.int32), numbers + 1)
    returned, _ = call_function(Rows(given, origins), function)
    if returned.table.num_rows and ROW not in returned.table.column_names:
        raise DataError(f"{place}: {function.path} must return the row that it was given, or None.")
    is_in = np.zeros(table.num_rows, dtype=bool)
    if returned.table.num_rows:
        is_in[returned.table[ROW].to_numpy()] = True
    return is_in


def _get(table: pa.Table, name: str, place: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        present = [column for column in table.column_names if column != "row_id"]
        raise DataError(
            f"{place}: there is no column {name!r} in the test rows; columns present: "
            f"{', '.join(map(repr, present))}.{find_nearest(name, present)}"
        )
    return table[name]


def align_slices(slices: pa.Table, judged: pa.ChunkedArray) -> pa.Table:
    """The same slices over the rows that were judged: one that is too long for a model may be left out.

    Args:
        slices: Of all test rows: `row_id`, and a column of true/false a slice.
        judged: The ids of the rows that were judged.
    """
    return slices.take(pc.index_in(judged, slices["row_id"].combine_chunks()))
