"""The kinds of task: a module each, with the same few functions. To add one: its module, and a line in `_SECTIONS`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Union, cast

from pydantic import Field

from tunesmith.kinds.protocol import ExamplesSection, Kind

_SECTIONS = {
    "text_classification": "TextClassification",
    "text_generation": "TextGeneration",
}

if TYPE_CHECKING:
    Examples = ExamplesSection
else:
    # Imported by name: a stage's code identity then holds the kind that it names, and not every kind there is.
    _CLASSES = tuple(getattr(import_module(f"{__name__}.{module}"), name) for module, name in _SECTIONS.items())
    Examples = Annotated[Union[_CLASSES], Field(discriminator="kind")]  # noqa: UP007

__all__ = ["Examples", "Kind", "find_kind", "kind_module"]


def kind_module(examples: Examples) -> str:
    """The name of the module that knows these examples.

    Example:
        >>> from tunesmith.kinds.text_generation import TextGeneration
        >>> kind_module(TextGeneration(kind="text-generation", text="story"))
        'tunesmith.kinds.text_generation'
    """
    return type(examples).__module__


def find_kind(examples: Examples) -> Kind:
    """The module that knows these examples."""
    return cast(Kind, import_module(kind_module(examples)))
