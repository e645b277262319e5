"""`tunesmith models`: what is registered."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.table import format_table
from tunesmith.home import Home


@click.command(short_help="List the registered models and their versions.")
@click.argument("name", required=False)
@json_option
@pass_output
def command(output: Output, name: str | None) -> None:
    """List every version of the registered model NAME, or of all models."""
    from tunesmith.tracking.config import TrackingConfig
    from tunesmith.tracking.registry import list_models
    from tunesmith.tracking.unrecorded import list_unrecorded

    home = Home.locate(os.environ, Path.cwd())
    if list_unrecorded(home.unrecorded_folder):
        output.note("some candidates are not registered yet: `tunesmith doctor` says which, and what to call")
    versions = list_models(TrackingConfig(uri=home.find_tracking_uri(os.environ)), name)
    rows = [[v.model_name, str(v.version), ", ".join(v.aliases), v.metric_text, v.created_text] for v in versions]
    table = format_table(["model", "version", "aliases", "primary metric", "registered"], rows)
    output.show([v.model_dump(mode="json") for v in versions], table if rows else "no model is registered")
