"""How the bytes of files become rows: the formats, and what a recipe can choose about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from tunesmith.section import Section, refuse_at

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "conll", "text"]
Compression = Literal["gzip", "bz2", "zstd"]
Quoting = Literal["standard", "none"]

FORMATS: tuple[Format, ...] = get_args(Format)

EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".txt": "text",
}
"""The format that a file's extension stands for, once that of its compression is taken off."""

COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""The compression that a file's last extension stands for."""

OPTION_FORMATS: dict[str, tuple[Format, ...]] = {
    "columns": ("csv", "tsv", "conll"),
    "header": ("csv", "tsv"),
    "delimiter": ("csv", "conll"),
    "quoting": ("csv", "tsv"),
    "encoding": ("csv", "tsv", "json", "jsonl", "conll", "text"),
    "null_values": ("csv", "tsv"),
    "field": ("json",),
    "keyed": ("json",),
    "unit": ("text",),
}
"""The formats for which each option has an effect."""


class KeyedRows(Section):
    """Where the two halves of each member of a json object go."""

    key: str = Field(min_length=1)
    """The column of the members' keys."""
    value: str | None = Field(default=None, min_length=1)
    """The column of the members' values. A value that is an object gives a column for each of its own members."""


class ReaderOptions(Section):
    """How the bytes of files become rows."""

    format: Format | None = None
    """The files' format; by default what their extension says."""
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns' names: for csv and tsv files without a header line, and for conll files."""
    header: bool | None = None
    """Whether line 1 of a csv or tsv file names the columns; by default it does where `columns` is not given."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """The character between two fields; by default a comma in csv and a tab in conll files."""
    quoting: Quoting | None = None
    """Whether double quotes enclose fields (`standard`, the default for csv) or are plain text (`none`, for tsv)."""
    encoding: str = "utf-8"
    """How the bytes of text files become characters; a byte-order mark is always dropped."""
    null_values: tuple[str, ...] = ()
    """Which fields of csv and tsv files stand for null, such as `""` or `NA`; none by default."""
    field: str | None = Field(default=None, min_length=1)
    """The key of a json file's object that holds the rows; dots lead into nested objects."""
    keyed: KeyedRows | None = None
    """For a json file whose rows are the members of an object: the columns of their keys and values."""
    unit: Literal["line", "paragraph", "document"] | None = None
    """What is one row of a text file: a line (the default), a paragraph or the whole file."""

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

    @model_validator(mode="after")
    def _options_work_together(self) -> Self:
        format = self.format or find_common_format(self.file_names())
        refuse_at(type(self), {} if format is None else find_idle_options(self, format))
        if self.header is False and self.columns is None:
            refuse_at(type(self), {"header": "without a header line the columns' names must be given: set `columns`"})
        if format == "conll" and self.columns is None:
            refuse_at(type(self), {"columns": "conll files do not name their columns: set it, such as [tokens, tags]"})
        return self

    def file_names(self) -> tuple[str, ...]:
        """What the recipe calls the files, as far as it tells their format."""
        return ()


def find_format(name: str) -> Format | None:
    """The format that a file name's extension stands for; None when it says nothing.

    Example:
        >>> find_format("reviews.csv.gz")
        'csv'
    """
    path = PurePath(name.lower())
    return EXTENSIONS.get(path.with_suffix("").suffix if path.suffix in COMPRESSIONS else path.suffix)


def find_compression(name: str) -> Compression | None:
    """The compression that a file name's extension stands for."""
    return COMPRESSIONS.get(PurePath(name.lower()).suffix)


def find_common_format(names: Iterable[str]) -> Format | None:
    """The one format of all names; None when they say nothing or differ."""
    formats = {find_format(name) for name in names}
    return formats.pop() if len(formats) == 1 else None


def find_idle_options(options: ReaderOptions, format: Format) -> dict[str, str]:
    """What is wrong with each option that is set and has no effect on files of a format."""
    return {
        option: f"has no effect on {format} files, only on {' and '.join(formats)}"
        for option, formats in OPTION_FORMATS.items()
        if option in options.model_fields_set and getattr(options, option) is not None and format not in formats
    }
