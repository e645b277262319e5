"""What every section of a recipe has in common: frozen, typed, no unknown keys, a docstring per field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Conflict = tuple[tuple[str | int, ...], str]
"""A place in a section, and what to change there."""


class NotInKey:
    """Marks a field that cannot change the bytes of a result, and so is left out of the stage's key."""


NOT_IN_KEY = NotInKey()


def _resolve(value: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder")
    return str((Path(folder) / value).absolute()) if folder is not None else value


RecipePath = Annotated[str, AfterValidator(_resolve), NOT_IN_KEY]
"""A path that the recipe gives relative to its own folder; absolute once loaded. In no key: content decides."""


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Values that do not go together; asked also where other values are wrong, so that all is told at once.

        Args:
            values: What the section says, as JSON values; what has another form than the section has is no conflict.

        Returns:
            The place to change and what to do, for each conflict.
        """
        return ()

    @model_validator(mode="after")
    def _has_no_conflicts(self) -> Self:
        _refuse(type(self), self.find_conflicts(self.model_dump(mode="json", exclude_unset=True)))
        return self

    def key_fields(self) -> dict[str, Any]:
        """The fields that shape a result, as JSON values: what a stage's key is made of."""
        fields = {}
        for name, info in type(self).model_fields.items():
            if not any(isinstance(mark, NotInKey) for mark in info.metadata):
                fields[name] = _key_value(getattr(self, name))
        return fields


def refuse_at(section: type[Section], mistakes: Mapping[Any, str]) -> None:
    """Refuse values of a section, each at its place: for validators that look at several fields.

    Raises:
        ValidationError: There is a mistake.
    """
    _refuse(section, ((place if isinstance(place, tuple) else (place,), text) for place, text in mistakes.items()))


def _refuse(section: type[Section], mistakes: Iterable[Conflict]) -> None:
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=place, input=None)
        for place, text in mistakes
    ]
    if details:
        raise ValidationError.from_exception_data(section.__name__, details)


def _key_value(value: object) -> Any:
    if isinstance(value, Section):
        return value.key_fields()
    if isinstance(value, (list, tuple)):
        return [_key_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _key_value(item) for key, item in value.items()}
    return value
