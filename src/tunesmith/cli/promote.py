"""`tunesmith promote`: make a version the champion, whatever the gate said."""

from __future__ import annotations

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import because_option, describe_change, find_tracking, find_user


@click.command(short_help="Make a version the champion by hand.")
@click.argument("model")
@because_option
@json_option
@pass_output
def command(output: Output, model: str, because: str) -> None:
    """Make MODEL, such as models:/reviews/3 or models:/reviews@candidate, the champion, whatever a gate said.

    A run that asks about it takes that for a yes.
    """
    from tunesmith.tracking.history import promote_by_hand
    from tunesmith.tracking.registry import find_named

    tracking = find_tracking()
    version = find_named(model, tracking)
    change = promote_by_hand(version.model_name, version.version, because or "by hand", tracking, find_user())
    output.show(change.model_dump(mode="json"), describe_change(version.model_name, change))
