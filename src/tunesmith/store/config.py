"""Where artifacts lie."""

from __future__ import annotations

from pathlib import Path

from tunesmith.section import Section
from tunesmith.store.folder import FolderStore


class StoreConfig(Section):
    """Where artifacts lie."""

    uri: str = ""
    """A folder; by default `store/` in TUNESMITH_HOME. `Recipe.load` fills it in."""
    recipe: str = ""
    """Whose earlier runs a change is explained against; by default the recipe's name."""


def open_store(config: StoreConfig) -> FolderStore:
    """The store that a loaded recipe names.

    Example:
        >>> open_store(StoreConfig(uri="/data/store")).root.name
        'store'
    """
    return FolderStore(Path(config.uri), config.recipe)
