"""`tunesmith data`: look at a recipe's rows."""

from __future__ import annotations

import logging

import click

from tunesmith.cli.lazy_group import LazyGroup
from tunesmith.cli.output import json_option

COMMANDS = {
    "show": "Show rows of a snapshot, or of one of its splits.",
    "profile": "What the columns hold: nulls, classes, lengths; and drift.",
    "diff": "Which rows came, went or changed between two snapshots.",
    "quarantine": "The rows that the contract refuses, with line and reasons.",
}
"""Each command lies in the module `data_` and its name."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    modules="tunesmith.cli.data_",
    invoke_without_command=True,
    short_help="Look at a recipe's rows.",
)
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Look at the rows that a recipe trains on, as its last run found them; nothing is computed anew.

    A snapshot is named by its RECIPE (the snapshot of what the sources hold now, else the newest), or by 6 or more
    digits of its key. Beside a recipe, `previous` is the snapshot before that one.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return
    # What reading a recipe's sources reports is of no interest here; main sets this back.
    logging.getLogger("tunesmith").setLevel(logging.WARNING)
