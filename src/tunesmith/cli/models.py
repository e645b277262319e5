"""`tunesmith models`: what is registered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.lazy_group import LazyGroup
from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import find_tracking
from tunesmith.cli.table import format_table
from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.tracking.registry import RegisteredVersion

COMMANDS = {
    "forget": "Let a candidate be that could not be uploaded.",
    "show": "The versions of one model, and when which was the champion, and why.",
}
"""Each command lies in the module `models_` and its name."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    modules="tunesmith.cli.models_",
    invoke_without_command=True,
    short_help="The registered models: their versions, and how a champion came to be.",
)
@json_option
@pass_output
@click.pass_context
def command(context: click.Context, output: Output) -> None:
    """List every version of every registered model; `show` tells more of one."""
    if context.invoked_subcommand is not None:
        return
    from tunesmith.tracking.registry import list_models
    from tunesmith.tracking.unrecorded import list_unrecorded

    home = Home.locate(os.environ, Path.cwd())
    if list_unrecorded(home.unrecorded_folder):
        output.note("some candidates are not registered yet: `tunesmith doctor` says which, and what to call")
    tracking = find_tracking()
    versions = list_models(tracking)
    text = format_versions(versions) if versions else f"no model is registered in {tracking.public_uri()}"
    output.show([v.model_dump(mode="json") for v in versions], text)


def format_versions(versions: Sequence[RegisteredVersion]) -> str:
    """A table of versions, the newest first."""
    rows = [
        [v.model_name, str(v.version), ", ".join(v.aliases), v.verdict, v.metric_text, v.created_text] for v in versions
    ]
    return format_table(["model", "version", "aliases", "verdict", "primary metric", "registered"], rows)
