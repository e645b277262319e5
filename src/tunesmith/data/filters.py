"""The `filter` transform: which rows a condition on one column keeps, and why the others are dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field, model_validator

from tunesmith.data.columns import CARRIED, shorten, to_values
from tunesmith.data.texts import Unit, check_pattern, has_match, measure_length, strip
from tunesmith.data.values import BoolArray, Scalar, is_one_of, to_numbers, to_texts
from tunesmith.section import Section

MAX_NAMED_CHOICES = 5

Reasons = Iterator[tuple[str, BoolArray]]
"""Reasons in words, each with the rows that it speaks of, shape (num_rows,)."""


def _is_a_pattern(pattern: str) -> str:
    check_pattern(pattern)
    return pattern


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_is_a_pattern)]
"""A regular expression in RE2's syntax, found anywhere in a text; `^` and `$` tie it to the ends."""

Choices = Annotated[tuple[Scalar, ...], Field(min_length=1)]


class LengthLimits(Section):
    """How long a text may be."""

    min: int | None = Field(default=None, ge=1)
    """The least that is kept."""
    max: int | None = Field(default=None, ge=0)
    """The most that is kept."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        check_range(self.min, self.max)
        return self


class NumberLimits(Section):
    """How large a number may be."""

    min: float | None = Field(default=None, allow_inf_nan=False)
    """The least that is kept."""
    max: float | None = Field(default=None, allow_inf_nan=False)
    """The most that is kept."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        check_range(self.min, self.max)
        return self


class FilterOptions(Section):
    """Which rows are kept: those where every condition holds. Null meets none of them but `is_null: true`."""

    column: str
    """The column that is looked at."""
    is_null: bool | None = None
    """Whether it must be null; stands alone."""
    is_empty: bool | None = None
    """Whether it must be empty: a text without a character but white space, a list or an object with nothing in it."""
    words: LengthLimits | None = None
    """How many words a text may have; words are what white space separates."""
    characters: LengthLimits | None = None
    """How many characters a text may have."""
    range: NumberLimits | None = None
    """How large a number may be; a text that is none is dropped."""
    one_of: Choices | None = None
    """The values that are kept."""
    none_of: Choices | None = None
    """The values that are dropped."""
    matches: Pattern | None = None
    """A regular expression that must be found in the text."""
    not_matches: Pattern | None = None
    """A regular expression that must not be found in the text."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = [name for name in type(self).model_fields if name != "column" and getattr(self, name) is not None]
        names = [name for name in type(self).model_fields if name != "column"]
        if not given:
            raise ValueError(f"filter needs a condition: {', '.join(names)}")
        if "is_null" in given and len(given) > 1:
            raise ValueError(f"is_null stands alone; null never meets {given[1]}, so it is dropped there anyway")
        return self


def check_range(least: float | None, most: float | None) -> None:
    """Refuse limits that limit nothing, or that leave nothing.

    Raises:
        ValueError: Says which.
    """
    if least is None and most is None:
        raise ValueError("needs `min`, `max` or both")
    if least is not None and most is not None and least > most:
        raise ValueError(f"min ({least:g}) is above max ({most:g})")


def find_dropped(column: pa.ChunkedArray, options: FilterOptions) -> Reasons:
    """Which rows a filter drops.

    Args:
        column: The values of `options.column`, of any type.
        options: The conditions.

    Yields:
        A reason in words, and the rows that it speaks of, shape (num_rows,); a row may have several.
    """
    name = options.column
    is_null = ~column.is_valid().to_numpy()
    if options.is_null is not None:
        yield (f"{name} not null", ~is_null) if options.is_null else (f"no {name}", is_null)
        return
    yield f"no {name}", is_null
    if options.is_empty is not None:
        is_empty = _find_empty(column)
        yield (f"{name} not empty", ~is_empty) if options.is_empty else (f"empty {name}", is_empty)
    if options.range is not None:
        yield f"{name} not a number", as_mask(pc.is_null(to_numbers(column)))
        yield from _prefix(name, find_out_of_range(column, options.range.min, options.range.max))
    if options.one_of is not None:
        yield f"{name} not among {list_choices(options.one_of)}", ~is_one_of(column, options.one_of)
    if options.none_of is not None:
        yield f"{name} among {list_choices(options.none_of)}", is_one_of(column, options.none_of)
    yield from _find_by_text(column, options)


def find_out_of_range(column: pa.ChunkedArray, least: float | None, most: float | None) -> Reasons:
    """Which numbers are too small or too large; a reason and its rows each."""
    numbers = to_numbers(column)
    if least is not None:
        yield f"below {write_limit(least)}", as_mask(pc.less(numbers, _as_limit(least, numbers)))
    if most is not None:
        yield f"above {write_limit(most)}", as_mask(pc.greater(numbers, _as_limit(most, numbers)))


def find_wrong_length(texts: pa.ChunkedArray, least: int | None, most: int | None, unit: Unit) -> Reasons:
    """Which texts are too short or too long; a reason and its rows each."""
    lengths = measure_length(texts, unit)
    if least is not None:
        yield f"shorter than {count_units(least, unit)}", as_mask(pc.less(lengths, least))
    if most is not None:
        yield f"longer than {count_units(most, unit)}", as_mask(pc.greater(lengths, most))


def as_mask(column: pa.ChunkedArray) -> BoolArray:
    """A column of true/false, in which null is false, as an array."""
    mask: BoolArray = pc.fill_null(column, False).to_numpy()
    return mask


def count_units(number: int, unit: Unit) -> str:
    """A length in words.

    Example:
        >>> count_units(1, "words"), count_units(2, "characters")
        ('1 word', '2 characters')
    """
    return f"{number:,} {unit[:-1] if number == 1 else unit}"


def list_choices(choices: Sequence[Any]) -> str:
    """Choices as a reason names them.

    Example:
        >>> list_choices(["a", 1])
        'a, 1'
    """
    named = [choice if isinstance(choice, str) else shorten(choice) for choice in choices[:MAX_NAMED_CHOICES]]
    return ", ".join(named) + (f", ... ({len(choices)} values)" if len(choices) > MAX_NAMED_CHOICES else "")


def write_limit(limit: float) -> str:
    """A limit as a person would write it: 5.0 as `5`."""
    return str(int(limit)) if limit == int(limit) else repr(limit)


def _prefix(name: str, reasons: Reasons) -> Reasons:
    return ((f"{name} {reason}", rows) for reason, rows in reasons)


def _as_limit(limit: float, numbers: pa.ChunkedArray) -> pa.Scalar:
    """A limit that whole numbers beyond 2**53 are compared with exactly."""
    is_whole = pa.types.is_integer(numbers.type) and limit.is_integer() and abs(limit) < 2**63
    return pa.scalar(int(limit), pa.int64()) if is_whole else pa.scalar(limit, pa.float64())


def _find_by_text(column: pa.ChunkedArray, options: FilterOptions) -> Reasons:
    if not (options.words or options.characters or options.matches or options.not_matches):
        return
    name = options.column
    texts, is_other = to_texts(column)
    yield f"{name} not text", is_other
    if options.words is not None:
        yield from _prefix(name, find_wrong_length(texts, options.words.min, options.words.max, "words"))
    if options.characters is not None:
        limits = options.characters
        yield from _prefix(name, find_wrong_length(texts, limits.min, limits.max, "characters"))
    if options.matches is not None:
        yield f"{name} does not match {options.matches}", as_mask(pc.invert(has_match(texts, options.matches)))
    if options.not_matches is not None:
        yield f"{name} matches {options.not_matches}", as_mask(has_match(texts, options.not_matches))


def _find_empty(column: pa.ChunkedArray) -> BoolArray:
    texts = to_texts(column).texts
    is_empty = as_mask(pc.equal(strip(texts), ""))
    if column.type == CARRIED:
        is_empty |= np.array([value in ([], {}) for value in to_values(column)], dtype=bool)
    return is_empty
