"""Where the rows come from, and how the files are read."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from tunesmith.data.transforms import Transform
from tunesmith.section import NOT_IN_KEY, RecipePath, Section

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "text"]

FORMATS: tuple[Format, ...] = get_args(Format)

EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
"""The format that a file's extension stands for, once a `.gz` is taken off."""

OPTION_FORMATS: dict[str, tuple[Format, ...]] = {
    "columns": ("csv", "tsv"),
    "delimiter": ("csv",),
    "quoting": ("csv", "tsv"),
    "encoding": ("csv", "tsv", "json", "jsonl", "text"),
    "null_values": ("csv", "tsv"),
    "field": ("json",),
    "unit": ("text",),
}
"""The formats for which each option has an effect."""


class DataConfig(Section):
    """Where the rows come from, how the files are read, and how the rows are cleaned."""

    files: Annotated[tuple[RecipePath, ...], NOT_IN_KEY, Field(min_length=1)]
    """Files or globs, relative to the recipe; each may be gzipped (`.gz`). Rows come in this order, globs by name."""
    format: Format | None = None
    """The files' format; by default what their extension says."""
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns' names, for csv and tsv files without a header line."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """The character between two fields of a csv file; a comma by default."""
    quoting: Literal["standard", "none"] | None = None
    """Whether double quotes enclose fields (`standard`, the default for csv) or are plain text (`none`, for tsv)."""
    encoding: str = "utf-8"
    """How the bytes of text files become characters; a byte-order mark is always dropped."""
    null_values: tuple[str, ...] = ()
    """Which fields of csv and tsv files stand for null, such as `""` or `NA`; none by default."""
    field: str | None = Field(default=None, min_length=1)
    """The key of a json file's object that holds the list of rows; dots lead into nested objects."""
    unit: Literal["line", "paragraph"] | None = None
    """What is one row of a text file; a line by default."""
    transforms: tuple[Transform, ...] = ()
    """What is done with the rows, in this order."""

    @field_validator("delimiter")
    @classmethod
    def _is_a_delimiter(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n':
            raise ValueError("a quote or a line end cannot separate fields")
        return value

    @field_validator("columns")
    @classmethod
    def _names_differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = sorted({name for name in value or () if (value or ()).count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} is named twice")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except (LookupError, UnicodeError):
            raise ValueError("no such text encoding; common ones are utf-8, utf-16, latin-1 and cp1252") from None
        return value

    @field_validator(*OPTION_FORMATS)
    @classmethod
    def _has_an_effect(cls, value: object, info: ValidationInfo) -> object:
        formats = OPTION_FORMATS[str(info.field_name)]
        format = info.data.get("format") or _format_of_all(info.data.get("files", ()))
        if value is not None and format is not None and format not in formats:
            raise ValueError(f"has no effect on {format} files, only on {' and '.join(formats)}")
        return value


def find_format(name: str) -> Format | None:
    """The format that a file name's extension stands for; None when it says nothing.

    Example:
        >>> find_format("reviews.csv.gz")
        'csv'
    """
    path = PurePath(name.lower())
    return EXTENSIONS.get(path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)


def _format_of_all(names: tuple[str, ...]) -> Format | None:
    formats = {find_format(name) for name in names}
    return formats.pop() if len(formats) == 1 else None
