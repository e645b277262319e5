"""Which rows validate and which test: the recipe's section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tunesmith.data.leakage import LeakageConfig
from tunesmith.section import Conflict, Section

Cutoff = Annotated[str | int | float, Field()]
WAYS = ("stratify", "group", "time", "predefined")


class TimeSplit(Section):
    """Older rows train, newer ones validate, the newest test; fixed dates, so that no row ever changes sides."""

    column: str
    """The column with the time: text that sorts by time, such as 2026-11-23, or a number."""
    validation_from: Cutoff
    """The first time that validates."""
    test_from: Cutoff
    """The first time that tests."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if isinstance(self.validation_from, str) != isinstance(self.test_from, str):
            raise ValueError("validation_from and test_from must both be text or both be numbers")
        if not self.validation_from < self.test_from:  # type: ignore[operator]  # both text or both numbers, as checked
            raise ValueError(f"validation_from ({self.validation_from}) must lie before test_from ({self.test_from})")
        return self


class PredefinedSplit(Section):
    """A column says which split a row belongs to."""

    column: str
    """The column; with several sources, `source_name` holds their names."""
    train: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The values of the rows that train; by default all that are not named below."""
    validation: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The values of the rows that validate; by default `validation_fraction` of the rows that train."""
    test: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The values of the rows that test; by default `test_fraction` of the rows that train."""

    @model_validator(mode="after")
    def _names_a_split(self) -> Self:
        named = [*(self.train or ()), *(self.validation or ()), *(self.test or ())]
        if self.validation is None and self.test is None:
            raise ValueError("needs `validation`, `test` or both")
        twice = sorted({value for value in named if named.count(value) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} is named twice; a row belongs to one split")
        return self


class SplitConfig(Section):
    """Which rows validate and which test; the rest trains. By default what a row's inputs hash to decides."""

    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows that validates, in (0, 1)."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows that tests, in (0, 1)."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Another seed is another split."""
    stratify: str | None = None
    """A column, usually the label: each of its values gets its share of each split. Appending rows moves none; deleting
    or reordering them may, which without `stratify` they never do."""
    group: str | None = None
    """A column, such as a customer: rows with one value stay together."""
    time: TimeSplit | None = None
    """Split by time instead, at fixed dates."""
    predefined: PredefinedSplit | None = None
    """Split by what a column says instead."""
    leakage: LeakageConfig = LeakageConfig()
    """What is done about rows of different splits that are nearly the same."""

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Ways to split that exclude each other, and options that have no effect beside the first."""
        first, *others = [way for way in WAYS if values.get(way) is not None] or ["hashes"]
        for way in others:
            yield (way,), f"excludes {first}; keep one of them"
        for name in sorted(_find_ineffective(values) & {*values}):
            yield (name,), f"has no effect beside {first}; remove it"
        validation, test = values.get("validation_fraction", 0.1), values.get("test_fraction", 0.1)
        are_fractions = all(isinstance(fraction, float) and 0 < fraction < 1 for fraction in (validation, test))
        if are_fractions and validation + test >= 1:
            text = f"and validation_fraction ({validation}) must sum to less than 1, so that some rows train"
            yield ("test_fraction",), text


def _find_ineffective(values: Mapping[str, Any]) -> set[str]:
    if values.get("time") is not None:
        return {"validation_fraction", "test_fraction", "seed"}
    predefined = values.get("predefined")
    if not isinstance(predefined, Mapping):
        return set()
    found = {f"{name}_fraction" for name in ("validation", "test") if predefined.get(name)}
    return found | ({"seed"} if len(found) == 2 else set())
