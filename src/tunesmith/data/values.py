"""The values of a column, whatever its type: as texts and as numbers, so that `5` is the same from csv and from JSON.

A part of the rows may hold numbers where another holds text; what is asked of a value never depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.column_types import DECIMAL_NUMBER
from tunesmith.data.columns import CARRIED, LARGEST_EXACT, shorten, to_values

Scalar = str | int | float | bool

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class Texts(NamedTuple):
    """The texts of a column.

    Attributes:
        texts: A text for each text, number and true/false; null for the rest.
        is_other: Whether a value is a list, an object or not Unicode, and so has no text; shape (num_rows,).
    """

    texts: pa.ChunkedArray
    is_other: BoolArray


def to_texts(column: pa.ChunkedArray) -> Texts:
    """Each value as text: a number as it is written in csv, 1.0 as `1`."""
    if pa.types.is_string(column.type):
        return Texts(column, np.zeros(len(column), dtype=bool))
    if pa.types.is_floating(column.type) or column.type == CARRIED:
        values = to_values(column)
        texts = [write_value(value) for value in values]
        is_other = [text is None and value is not None for text, value in zip(texts, values, strict=True)]
        return Texts(pa.chunked_array([pa.array(texts, pa.string())]), np.array(is_other, dtype=bool))
    return Texts(column.cast(pa.string()), np.zeros(len(column), dtype=bool))


def to_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each value as a whole or a decimal number, text that is one included; null for the rest."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column
    if pa.types.is_boolean(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.float64())])
    texts = to_texts(column).texts
    numbers = pc.if_else(pc.match_substring_regex(texts, DECIMAL_NUMBER), texts, None).cast(pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def write_value(value: object) -> str | None:
    """A text, number or true/false as text; None for what has none.

    Example:
        >>> write_value(1.0), write_value(True), write_value("a"), write_value([1])
        ('1', 'true', 'a', None)
    """
    if isinstance(value, str):
        return value if _is_unicode(value) else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT:
        return str(int(value))
    return repr(value) if isinstance(value, (int, float)) else None


def is_one_of(column: pa.ChunkedArray, choices: Sequence[Scalar]) -> BoolArray:
    """Whether each value is one of the choices, shape (num_rows,); null is none.

    A text is compared as text, a number as a number.
    """
    named = [write_value(choice) for choice in choices if isinstance(choice, (str, bool))]
    wanted = [choice for choice in choices if isinstance(choice, (int, float)) and not isinstance(choice, bool)]
    numbers = to_numbers(column)
    fitting = [number for number in wanted if _fits(number, numbers.type)]
    named += [write_value(number) for number in wanted if number not in fitting]
    found: BoolArray = pc.is_in(to_texts(column).texts, pa.array(named, pa.string())).to_numpy()
    held = [int(number) if pa.types.is_integer(numbers.type) else float(number) for number in fitting]
    return found | pc.is_in(numbers, pa.array(held, numbers.type)).to_numpy() if held else found


def describe_other(value: object) -> str:
    """What a value without a text is."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'}, {shorten(value)}"
    return f"text that is not Unicode, {shorten(value)}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(number: float, kind: pa.DataType) -> bool:
    """Whether a column of whole or decimal numbers can hold a number exactly."""
    if pa.types.is_integer(kind):
        return math.isfinite(number) and number == int(number) and -(2**63) <= number < 2**63
    try:
        return float(number) == number
    except OverflowError:
        return False
