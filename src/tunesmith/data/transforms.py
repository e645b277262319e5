"""What can be done with rows before they become a snapshot, one transform after the other."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from tunesmith.section import RecipePath, Section

Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class Rename(Section):
    """Gives columns other names."""

    rename: dict[str, str] = Field(min_length=1)
    """The new name of each column, by its old name."""


class DropNull(Section):
    """Drops rows without a value."""

    drop_null: Columns
    """A row that is null in any of these columns is dropped."""


class DropDuplicates(Section):
    """Drops rows that repeat an earlier one."""

    drop_duplicates: Columns
    """A row that equals an earlier one in all of these columns is dropped."""


class LengthOptions(Section):
    """Which text is measured, and where its length goes."""

    column: str
    """The text column."""
    into: str
    """The new column."""
    unit: Literal["words", "characters"] = "words"
    """What is counted; words are what spaces separate."""


class DeriveLength(Section):
    """Adds a column with the length of a text."""

    derive_length: LengthOptions
    """Which text is measured, and where its length goes."""


class SelectOptions(Section):
    """Which rows and columns are kept."""

    first: int | None = Field(default=None, ge=1)
    """How many rows are kept, from the first on."""
    columns: Columns | None = None
    """The columns that are kept."""

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if self.first is None and self.columns is None:
            raise ValueError("select needs `first`, `columns` or both")
        return self


class Select(Section):
    """Keeps the first rows, or some columns, or both."""

    select: SelectOptions
    """Which rows and columns are kept."""


class ShuffleOptions(Section):
    """How the rows are shuffled."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed is another order."""


class Shuffle(Section):
    """Puts the rows in a random order, always the same for one seed."""

    shuffle: ShuffleOptions
    """How the rows are shuffled."""


class FunctionOptions(Section):
    """Which function of yours is called with every row."""

    path: str
    """`module:function`. It gets a row as a dict and returns a row, or None to drop it. Its source shapes the key."""
    folder: Annotated[RecipePath, Field(validate_default=True)] = "."
    """Where the module lies, relative to the recipe; what is not found there must be installed."""

    @field_validator("path")
    @classmethod
    def _is_an_import_path(cls, value: str) -> str:
        module, _, function = value.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), function]):
            raise ValueError("must be `module:function`, such as `cleaning:fix_label`")
        return value


class Function(Section):
    """Calls a function of yours with every row."""

    function: FunctionOptions
    """Which function is called."""


def _transform_name(value: object) -> str | None:
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    return next(iter(value), None) if isinstance(value, dict) else None


Transform = Annotated[
    Annotated[Rename, Tag("rename")]
    | Annotated[DropNull, Tag("drop_null")]
    | Annotated[DropDuplicates, Tag("drop_duplicates")]
    | Annotated[DeriveLength, Tag("derive_length")]
    | Annotated[Select, Tag("select")]
    | Annotated[Shuffle, Tag("shuffle")]
    | Annotated[Function, Tag("function")],
    Discriminator(_transform_name),
]
"""One transform: in YAML a mapping with one key, its name."""
