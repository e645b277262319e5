"""`tunesmith gate`: look at decisions."""

from __future__ import annotations

import click

from tunesmith.cli.lazy_group import LazyGroup
from tunesmith.cli.output import json_option

COMMANDS = {"replay": "Decide again from what a decision rested on, and compare."}
"""Each command lies in the module `gate_` and its name."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    modules="tunesmith.cli.gate_",
    invoke_without_command=True,
    short_help="Look at decisions.",
)
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Look at the decisions on candidates."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
