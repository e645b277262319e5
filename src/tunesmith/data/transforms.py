"""What can be done with rows before they become a snapshot, one transform after the other.

A *local* transform looks at one row at a time, so it is applied to a part of the rows after the other
(`tunesmith.data.mapping`); a *global* one looks at several.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tunesmith.data.derived import DeriveOptions
from tunesmith.data.filters import FilterOptions
from tunesmith.data.functions import FunctionOptions, function_digest
from tunesmith.data.operations import Operation
from tunesmith.section import Section

Columns = Annotated[tuple[str, ...], Field(min_length=1)]
Operations = Annotated[tuple[Operation, ...], Field(min_length=1)]


class Rename(Section):
    """Gives columns other names."""

    rename: dict[str, str] = Field(min_length=1)
    """The new name of each column, by its old name."""


class SelectColumns(Section):
    """Keeps some columns."""

    select_columns: Columns
    """The columns that are kept, in this order."""


class RemoveColumns(Section):
    """Removes some columns."""

    remove_columns: Columns
    """The columns that are removed."""


class DropNull(Section):
    """Drops rows without a value."""

    drop_null: Columns
    """A row that is null in any of these columns is dropped."""


class Filter(Section):
    """Drops the rows that do not meet a condition."""

    filter: FilterOptions
    """The conditions on one column; a row is kept where all of them hold."""


class Map(Section):
    """Changes the values of columns."""

    map: dict[str, Operations] = Field(min_length=1)
    """The operations on each column, in their order, such as `{text: [strip, lower]}`."""


class Derive(Section):
    """Adds a column that is made from others."""

    derive: DeriveOptions
    """The new column, and how it is made."""


class Explode(Section):
    """Makes a row of each item of a list."""

    explode: Columns
    """The columns with lists; several are taken apart side by side. An empty list leaves no row."""


class Function(Section):
    """Calls a function of yours with the rows."""

    function: FunctionOptions
    """Which function is called, and how."""


class DropDuplicates(Section):
    """Drops rows that repeat an earlier one."""

    drop_duplicates: Columns
    """A row that equals an earlier one in all of these columns is dropped."""


class SampleOptions(Section):
    """How many rows are kept: `fraction` or `num_rows`."""

    fraction: float | None = Field(default=None, gt=0, lt=1)
    """The share of the rows, in (0, 1), by a hash of each: equal rows share their fate, and a new row moves none."""
    num_rows: int | None = Field(default=None, ge=1)
    """The number of rows; they keep their order."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed keeps other rows."""

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if (self.fraction is None) == (self.num_rows is None):
            raise ValueError("sample needs either `fraction` or `num_rows`")
        return self


class Sample(Section):
    """Keeps some rows, chosen at random, always the same for one seed."""

    sample: SampleOptions
    """How many rows are kept."""


class ShuffleOptions(Section):
    """How the rows are shuffled."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed is another order."""


class Shuffle(Section):
    """Puts the rows in a random order, always the same for one seed."""

    shuffle: ShuffleOptions
    """How the rows are shuffled."""


class Take(Section):
    """Keeps the first rows."""

    take: int = Field(ge=1)
    """How many rows are kept."""


def _transform_name(value: object) -> str | None:
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    return next(iter(value), None) if isinstance(value, dict) else None


Transform = Annotated[
    Annotated[Rename, Tag("rename")]
    | Annotated[SelectColumns, Tag("select_columns")]
    | Annotated[RemoveColumns, Tag("remove_columns")]
    | Annotated[DropNull, Tag("drop_null")]
    | Annotated[DropDuplicates, Tag("drop_duplicates")]
    | Annotated[Filter, Tag("filter")]
    | Annotated[Map, Tag("map")]
    | Annotated[Derive, Tag("derive")]
    | Annotated[Explode, Tag("explode")]
    | Annotated[Function, Tag("function")]
    | Annotated[Sample, Tag("sample")]
    | Annotated[Shuffle, Tag("shuffle")]
    | Annotated[Take, Tag("take")],
    Discriminator(_transform_name),
]
"""One transform: in YAML a mapping with one key, its name."""


def is_local(transform: Transform) -> bool:
    """Whether a transform looks at one row at a time.

    Example:
        >>> is_local(Take(take=3)), is_local(Rename(rename={"a": "b"}))
        (False, True)
    """
    if isinstance(transform, Sample):
        return transform.sample.fraction is not None
    return not isinstance(transform, (DropDuplicates, Shuffle, Take))


def digest_functions(transforms: Iterable[Transform]) -> dict[str, str]:
    """The source of each function that transforms call, as a digest by its name: part of the key of what they make.

    A name that comes again is numbered: it may be that of another function, from another folder.

    Raises:
        DataError: There is no such module.
    """
    functions = [transform.function for transform in transforms if isinstance(transform, Function)]
    digests: dict[str, str] = {}
    for place, function in enumerate(functions):
        before = sum(other.path == function.path for other in functions[:place])
        digests[f"function {function.path}" + (f" ({before + 1})" if before else "")] = function_digest(function)
    return digests
