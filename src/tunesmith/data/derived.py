"""The `derive` transform: a new column, made from others."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunesmith.data.column_checks import check_new, check_present, get_texts
from tunesmith.data.columns import from_values
from tunesmith.data.origins import Rows
from tunesmith.data.texts import Unit, measure_length
from tunesmith.data.values import Scalar
from tunesmith.section import Section

WAYS = ("template", "length_of", "constant")


class DeriveOptions(Section):
    """The new column's name, and one way to make it: `template`, `length_of` or `constant`."""

    into: str = Field(min_length=1)
    """The new column."""
    template: str | None = None
    """A text with columns in braces, such as `{title} [SEP] {body}`; a brace itself is written twice."""
    length_of: str | None = None
    """The column whose texts are measured; the length of null is null."""
    constant: Scalar | None = None
    """The same value in every row."""
    null_text: str | None = None
    """What stands in a template for null; without it, one null makes the whole text null."""
    unit: Unit | None = None
    """What `length_of` counts: words (the default), which are what white space separates, or characters."""

    @field_validator("template")
    @classmethod
    def _is_a_template(cls, value: str | None) -> str | None:
        if value is not None and not any(name for _, name in parse_template(value)):
            raise ValueError("names no column; write one in braces, such as `{text}`, or use `constant`")
        return value

    @field_validator("null_text", "unit")
    @classmethod
    def _has_an_effect(cls, value: str | None, info: ValidationInfo) -> str | None:
        way = "template" if info.field_name == "null_text" else "length_of"
        # Where that option is wrong itself, it is missing here, and has a line of its own already.
        if value is not None and way in info.data and info.data[way] is None:
            raise ValueError(f"has no effect without `{way}`")
        return value

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"derive needs one of template, length_of and constant, not {' and '.join(given) or 'none'}"
            )
        return self


def derive_column(rows: Rows, options: DeriveOptions) -> Rows:
    """Append the new column.

    Raises:
        DataError: It is there already, one that it is made of is not, or a value has no text.
    """
    check_new(rows, "derive", options.into)
    return rows._replace(table=rows.table.append_column(options.into, _make_column(rows, options)))


def parse_template(template: str) -> Iterator[tuple[str, str | None]]:
    """A template as pairs of a text and the column after it; None where none follows.

    Raises:
        ValueError: Its braces do not match, or hold more than a column's name.
    """
    for text, name, form, conversion in string.Formatter().parse(template):
        if name == "" or form or conversion:
            raise ValueError("a pair of braces holds the name of a column and nothing else; a brace is written twice")
        yield text, name


def _make_column(rows: Rows, options: DeriveOptions) -> pa.ChunkedArray:
    if options.template is not None:
        return _fill_in(rows, list(parse_template(options.template)), options.null_text)
    if options.length_of is not None:
        check_present(rows, "derive", [options.length_of])
        return measure_length(get_texts(rows, "derive", options.length_of), options.unit or "words")
    value = from_values([options.constant])
    return pa.chunked_array([pa.repeat(value[0], rows.table.num_rows)])


def _fill_in(rows: Rows, template: Sequence[tuple[str, str | None]], null_text: str | None) -> pa.ChunkedArray:
    check_present(rows, "derive", [name for _, name in template if name is not None])
    pieces: list[pa.ChunkedArray | str] = []
    for text, name in template:
        pieces.append(text)
        if name is not None:
            texts = get_texts(rows, "derive", name)
            pieces.append(texts if null_text is None else texts.fill_null(null_text))
    return pc.binary_join_element_wise(*pieces, "")
