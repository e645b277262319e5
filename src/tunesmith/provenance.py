"""Where a run's recipe comes from: its text, its values, the commit that it lies in."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tunesmith.recipe import Recipe
from tunesmith.tracking.record import RecipeRecord


def record_recipe(recipe: Recipe, path: Path, overrides: Sequence[str] = ()) -> RecipeRecord:
    """What the tracking server is told about a recipe.

    Args:
        recipe: As loaded from `path`, overrides included.
        path: The recipe's file.
        overrides: The changes to it.
    """
    return RecipeRecord(
        name=recipe.name,
        recipe=recipe.key_fields(),
        recipe_text=path.read_text(encoding="utf-8"),
        base=recipe.model.base,
        command=shlex.join(["tunesmith", "run", str(path.absolute()), *(f"--set={change}" for change in overrides)]),
        git_commit=_find_commit(path.absolute().parent),
    )


def _find_commit(folder: Path) -> str | None:
    """The commit that is checked out in the folder's git repository, `-dirty` where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
