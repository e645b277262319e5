"""What the tracking server is told about the recipe behind a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

NOT_PARAMETERS = frozenset({"name", "store", "tracking", "registry"})
"""Sections that say where results go: they change no result, and so are no parameters of the run."""


class RecipeRecord(BaseModel):
    """The recipe of a run, as the tracking server keeps it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The recipe's name."""
    recipe: dict[str, Any]
    """The whole recipe in canonical form, as JSON values."""
    recipe_text: str
    """The recipe's file, as it was read."""
    base: str = ""
    """The base model, as the recipe names it."""
    command: str = ""
    """What a person calls to run the recipe with these values."""
    git_commit: str | None = None
    """The commit of the working directory, where it is in a git repository."""

    def parameters(self) -> dict[str, str]:
        """The recipe as flat names and texts, such as `train.num_epochs` -> `1`.

        Example:
            >>> RecipeRecord(name="a", recipe={"train": {"seed": 0}}, recipe_text="").parameters()
            {'train.seed': '0'}
        """
        sections = {name: value for name, value in self.recipe.items() if name not in NOT_PARAMETERS}
        return dict(_flatten(sections, ""))


def _flatten(value: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(value, str):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, ensure_ascii=False)
