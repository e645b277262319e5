"""How the `data` commands are told which snapshot to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.store_option import open_named_store, store_option
from tunesmith.errors import CallError

if TYPE_CHECKING:
    from tunesmith.data.versions import Version
    from tunesmith.recipe import Recipe
    from tunesmith.store.derivation import Derivation
    from tunesmith.store.folder import FolderStore

PREVIOUS = "previous"

_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Change a value of the recipe, as for `run`; may be given several times.",
)
rows_option = click.option(
    "--rows", "num_rows", type=click.IntRange(min=0), default=10, show_default=True, help="How many rows to list."
)


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where snapshots are looked for."""
    return _set(store_option(function))


def snapshot_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument `named`, and the options that say where it is looked for."""
    return click.argument("named", metavar="RECIPE_OR_SNAPSHOT")(place_options(function))


@dataclass(frozen=True)
class Place:
    """Where snapshots are looked for.

    Attributes:
        store: The store.
        file: The recipe's file, as it was given; empty where there is no recipe.
        recipe: The recipe.
    """

    store: FolderStore
    file: str = ""
    recipe: Recipe | None = None

    def find(self, named: str) -> Version:
        """The snapshot of a name.

        Raises:
            CallError: There is none of this name.
        """
        from tunesmith.data.versions import find_by_key, find_previous

        if self.recipe is not None and named == self.file:
            return self.now
        if named != PREVIOUS:
            return find_by_key(self.store, named)
        if self.recipe is None:
            raise CallError("`previous` of which recipe? Write `tunesmith data diff RECIPE previous`.")
        return find_previous(self.store, self.now, self.file)

    @cached_property
    def now(self) -> Version:
        """The recipe's snapshot of what its sources hold now, or the newest.

        Raises:
            CallError: There is none.
        """
        from tunesmith.data.versions import find_version

        return find_version(self.store, self.file, self._derive)

    def _derive(self) -> Derivation:
        from tunesmith.data.fetch import fetch
        from tunesmith.data.snapshot import derive_snapshot

        assert self.recipe is not None
        return derive_snapshot(fetch(self.recipe.data, self.store), self.recipe.data, self.recipe.examples, self.store)


def open_place(names: Sequence[str], overrides: Sequence[str], store_uri: str | None) -> list[Place]:
    """Where each of some names is looked for: a recipe in its own store, a key where the recipe beside it looks.

    Args:
        names: What the user gave: recipes, keys, `previous`.
        overrides: Values to use instead of the recipes'.
        store_uri: Where keys are looked for; None for the home's store.

    Raises:
        CallError: A name can be none of these, or an option has no effect.
        RecipeError: A recipe is wrong.
    """
    opened = {name: _open_recipe(name, overrides) for name in dict.fromkeys(names) if _is_recipe(name)}
    if overrides and not opened:
        raise CallError("--set has no effect on a snapshot that is named by its key; name its recipe, or leave it out.")
    if store_uri is not None and opened:
        raise CallError("--store has no effect on a recipe, which says where its store is: use --set store.uri=URI.")
    other = next(iter(opened.values()), None) or Place(open_named_store(store_uri))
    return [opened.get(name, other) for name in names]


def _is_recipe(name: str) -> bool:
    from tunesmith.data.versions import MIN_DIGITS, is_key

    if Path(name).exists():
        return True
    if name and not is_key(name) and set(name.lower()) <= set("0123456789abcdef"):
        raise CallError(f"{name}: there is no such recipe, and a snapshot takes {MIN_DIGITS} to 32 digits of its key.")
    return name != PREVIOUS and not is_key(name)


def _open_recipe(name: str, overrides: Sequence[str]) -> Place:
    from tunesmith.recipe import Recipe
    from tunesmith.store.config import open_store

    recipe = Recipe.load(name, overrides)
    return Place(open_store(recipe.store), name, recipe)
