"""The `map` transform: what is done with the values of a column, one operation after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from tunesmith.data.column_checks import get_texts, refuse_value
from tunesmith.data.columns import shorten, to_values
from tunesmith.data.filters import Pattern, list_choices
from tunesmith.data.nearest import find_nearest
from tunesmith.data.origins import Rows
from tunesmith.data.texts import (
    UnicodeForm,
    check_pattern,
    collapse_whitespace,
    lower,
    normalize_unicode,
    replace_pattern,
    strip,
    unescape_html,
)
from tunesmith.data.values import Scalar, write_value
from tunesmith.section import Section

Word = Literal["strip", "collapse_whitespace", "lower", "unescape_html"]

_FUNCTIONS = {
    "strip": strip,
    "collapse_whitespace": collapse_whitespace,
    "lower": lower,
    "unescape_html": unescape_html,
}


class NormalizeUnicode(Section):
    """Writes equal texts with equal characters."""

    normalize_unicode: UnicodeForm
    """NFC puts letters and their accents together; NFKC also makes look-alikes one, such as full-width letters."""


class Replace(Section):
    """Replaces what a regular expression finds."""

    replace: Pattern
    r"""The regular expression, in RE2's syntax, such as `https?://\S+`."""
    by: str
    r"""What stands there instead of each match; `\1` is the first group."""

    @field_validator("by")
    @classmethod
    def _has_the_groups(cls, value: str, info: ValidationInfo) -> str:
        if "replace" in info.data:
            check_pattern(info.data["replace"], value)
        return value


class Join(Section):
    """Makes one text of a list of texts."""

    join: str
    """What stands between them."""


class MapValues(Section):
    """Puts other values in the place of values."""

    values: dict[str, Scalar | None] = Field(min_length=1)
    """The new value by the old one, such as `{0: negative, 1: positive}`."""
    others: Literal["stop", "keep", "null"] = "stop"
    """What happens with a value that is not named: the run stops, it is kept, or it becomes null."""


def _operation_name(value: object) -> str | None:
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    if isinstance(value, str):
        return "word"
    if not isinstance(value, dict):
        return None
    return next((name for name in value if name in OPERATIONS), next(iter(value), None))


Operation = Annotated[
    Annotated[Word, Tag("word")]
    | Annotated[NormalizeUnicode, Tag("normalize_unicode")]
    | Annotated[Replace, Tag("replace")]
    | Annotated[Join, Tag("join")]
    | Annotated[MapValues, Tag("values")],
    Discriminator(_operation_name),
]
"""One operation: a word, or a mapping with its name and its options."""

OPERATIONS = ("normalize_unicode", "replace", "join", "values")


def apply_operations(rows: Rows, name: str, operations: Sequence[Operation]) -> Rows:
    """Apply operations to a column, in their order.

    Raises:
        DataError: A value cannot be worked on; names its row.
    """
    for operation in operations:
        column = _apply(rows, name, operation)
        rows = rows._replace(table=rows.table.set_column(rows.table.column_names.index(name), name, column))
    return rows


def _apply(rows: Rows, name: str, operation: Operation) -> pa.ChunkedArray:
    match operation:
        case Join():
            return _join(rows, name, operation.join)
        case NormalizeUnicode():
            return normalize_unicode(get_texts(rows, "map", name), operation.normalize_unicode)
        case Replace():
            return replace_pattern(get_texts(rows, "map", name), operation.replace, operation.by)
        case MapValues():
            return _map_values(rows, name, operation)
        case str():
            return _FUNCTIONS[operation](get_texts(rows, "map", name))


def _join(rows: Rows, name: str, separator: str) -> pa.ChunkedArray:
    column = rows.table[name]
    joined: list[str | None] = []
    for row, value in enumerate(to_values(column)):
        if value is not None and not isinstance(value, list):
            cure = "`join` takes lists only: leave it out, or drop the row with a filter before."
            refuse_value(rows, "map", name, row, f"{shorten(value)}, which is no list", cure)
        texts = [write_value(item) for item in value or ()]
        if None in texts:
            cure = "`join` takes lists of texts and numbers; use a function transform."
            refuse_value(rows, "map", name, row, f"a list with other things than texts, {shorten(value)}", cure)
        joined.append(None if value is None else separator.join(text for text in texts if text is not None))
    return pa.chunked_array([pa.array(joined, pa.string())])


def _map_values(rows: Rows, name: str, operation: MapValues) -> pa.ChunkedArray:
    texts = get_texts(rows, "map", name)
    old = pa.array(operation.values, pa.string())
    new = pa.array([write_value(value) for value in operation.values.values()], pa.string())
    index = pc.index_in(texts, old)
    mapped = pa.chunked_array([new.take(chunk) for chunk in index.chunks], pa.string())
    is_unknown = pc.and_(pc.is_null(index), pc.is_valid(texts))
    if operation.others == "stop" and pc.any(is_unknown).as_py():
        row = pc.index(is_unknown, True).as_py()
        _refuse_unknown(rows, name, row, texts[row].as_py(), operation.values)
    return pc.if_else(is_unknown, texts, mapped) if operation.others == "keep" else mapped


def _refuse_unknown(rows: Rows, name: str, row: int, value: str, known: Mapping[str, Any]) -> None:
    cure = (
        f"`values` names {list_choices([*known])}.{find_nearest(value, [*known])} Name it there, say `others: keep` or "
        "`others: null`, or drop the row with a filter before."
    )
    refuse_value(rows, "map", name, row, f"{shorten(value)}, which is no value that is mapped", cure)
