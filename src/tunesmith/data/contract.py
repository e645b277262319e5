"""The contract: what a recipe promises of its rows. A row that breaks it goes to quarantine with its reasons."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from tunesmith.data.filters import Choices, Pattern, write_limit
from tunesmith.data.texts import Unit
from tunesmith.data.values import Scalar, write_value
from tunesmith.section import Section

ColumnType = Literal["text", "whole", "decimal", "bool"]

TYPE_NAMES: dict[ColumnType, str] = {
    "text": "text",
    "whole": "a whole number",
    "decimal": "a number",
    "bool": "true or false",
}

TYPES_OF_OPTION: dict[str, tuple[ColumnType, ...]] = {
    "allowed": get_args(ColumnType),
    "min_length": ("text",),
    "max_length": ("text",),
    "unit": ("text",),
    "pattern": ("text",),
    "min": ("whole", "decimal"),
    "max": ("whole", "decimal"),
    "unique": ("text", "whole", "decimal"),
}
"""The types for which each option has an effect."""

_PYTHON_TYPES: dict[ColumnType, tuple[type, ...]] = {
    "text": (str,),
    "whole": (int,),
    "decimal": (int, float),
    "bool": (bool,),
}


class ColumnContract(Section):
    """What every value of a column must be."""

    type: ColumnType
    """What each value is: text, a whole number, a decimal number (whole ones too) or true/false."""
    nullable: bool = False
    """Whether a row may have no value; all that follows is asked of values only."""
    allowed: Choices | None = None
    """The values that there are; any other, such as a new label, is refused by name."""
    min_length: int | None = Field(default=None, ge=1)
    """The least length of a text."""
    max_length: int | None = Field(default=None, ge=1)
    """The greatest length of a text."""
    unit: Unit | None = None
    """What lengths count: characters (the default) or words, which are what white space separates."""
    pattern: Pattern | None = None
    """A regular expression (RE2) that is found in every text; `^` and `$` tie it to the ends."""
    min: float | None = Field(default=None, allow_inf_nan=False)
    """The smallest number."""
    max: float | None = Field(default=None, allow_inf_nan=False)
    """The largest number."""
    unique: bool = False
    """Whether no value may stand in two rows; the first of them is kept."""

    @field_validator("allowed")
    @classmethod
    def _are_of_the_type(cls, value: tuple[Scalar, ...] | None, info: ValidationInfo) -> tuple[Scalar, ...] | None:
        expected: ColumnType | None = info.data.get("type")
        for choice in value or ():
            is_bool = isinstance(choice, bool)
            if expected and (is_bool != (expected == "bool") or not isinstance(choice, _PYTHON_TYPES[expected])):
                hint = "; put it in quotes" if expected == "text" else ""
                raise ValueError(f"{write_value(choice)} is not {TYPE_NAMES[expected]}, which the column holds{hint}")
        written = [write_value(choice) for choice in value or ()]
        twice = next((choice for choice in written if written.count(choice) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is named twice")
        return value

    @field_validator(*(option for option in TYPES_OF_OPTION if option != "allowed"))
    @classmethod
    def _has_an_effect(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        expected, types = info.data.get("type"), TYPES_OF_OPTION[name]
        if value is None or value is False:
            return value
        if expected is not None and expected not in types:
            raise ValueError(f"has no effect on a column of type {expected}, only on {' and '.join(types)}")
        if name != "unique" and info.data.get("allowed") is not None:
            raise ValueError("has no effect beside `allowed`, which names every value; take one of the two out")
        return value

    @field_validator("unit")
    @classmethod
    def _measures_something(cls, value: Unit | None, info: ValidationInfo) -> Unit | None:
        limits = ("min_length", "max_length")
        if value is not None and all(info.data.get(name, 0) is None for name in limits):
            raise ValueError("has no effect without `min_length` or `max_length`")
        return value

    @field_validator("max_length", "max")
    @classmethod
    def _is_not_below(cls, value: float | None, info: ValidationInfo) -> float | None:
        name = str(info.field_name).replace("max", "min")
        least = info.data.get(name)
        if value is not None and least is not None and least > value:
            raise ValueError(f"{write_limit(value)} is below {name} ({write_limit(least)})")
        return value


class ContractConfig(Section):
    """What the rows must be when the transforms are done, and how many may be refused."""

    columns: dict[str, ColumnContract] = Field(min_length=1)
    """What each column must be; every column that is named must be there."""
    extra_columns: Literal["allow", "refuse"] = "allow"
    """Whether there may be columns that are not named."""
    max_quarantined_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows, in [0, 1), that may go to quarantine before the run stops; 0, the default, stops for any."""

    @property
    def unique_columns(self) -> tuple[str, ...]:
        """The columns in which no value may stand twice."""
        return tuple(name for name, column in self.columns.items() if column.unique)
