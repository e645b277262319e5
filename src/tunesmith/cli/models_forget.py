"""`tunesmith models forget`: no more of a candidate that could not be uploaded."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.home import Home


@click.command(short_help="Let a candidate be that could not be uploaded.")
@click.argument("key")
@json_option
@pass_output
def command(output: Output, key: str) -> None:
    """Drop the note on the candidate KEY, as `tunesmith doctor` lists it, whose record in MLflow is not complete.

    What was trained stays in the store: where its recipe is run again with the same data and code, it is uploaded all
    the same.
    """
    from tunesmith.tracking.unrecorded import forget_note

    note = forget_note(Home.locate(os.environ, Path.cwd()).unrecorded_folder, key)
    output.show(note.model_dump(mode="json"), f"nobody waits any more for {note.describe()}")
