"""What every command that takes a recipe has in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_argument = click.argument("recipe", type=click.Path(path_type=Path))
_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Change a value of the recipe, such as train.num_epochs=2; may be given several times.",
)


def recipe_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments `recipe` and `overrides`."""
    return _argument(_overrides(function))
