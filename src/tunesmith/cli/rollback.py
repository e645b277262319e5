"""`tunesmith rollback`: back to the champion before this one."""

from __future__ import annotations

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import because_option, describe_change, find_tracking


@click.command(short_help="Go back to the champion before this one.")
@click.argument("name")
@because_option
@json_option
@pass_output
def command(output: Output, name: str, because: str) -> None:
    """Make the previous champion of the registered model NAME the champion again; called twice, the one before."""
    from tunesmith.tracking.history import roll_back

    change = roll_back(name.removeprefix("models:/"), because or "rolled back", find_tracking())
    output.show(change.model_dump(mode="json"), describe_change(name, change))
