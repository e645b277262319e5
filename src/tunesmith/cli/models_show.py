"""`tunesmith models show`: the versions of a model and the history of its champion."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import fill
from typing import TYPE_CHECKING

import click

from tunesmith.cli.models import format_versions
from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import find_tracking

if TYPE_CHECKING:
    from tunesmith.tracking.history import Change

DIGEST_DIGITS = 12
WIDTH = 110


@click.command(short_help="The versions of one model, and when which was the champion, and why.")
@click.argument("name")
@json_option
@pass_output
def command(output: Output, name: str) -> None:
    """Show the versions of the registered model NAME: when which was the champion, why, on which data."""
    from tunesmith.tracking.history import find_history
    from tunesmith.tracking.registry import list_models

    name, tracking = name.removeprefix("models:/"), find_tracking()
    history = find_history(name, tracking)
    versions = list_models(tracking, name)
    document = {
        "versions": [version.model_dump(mode="json") for version in versions],
        "history": [change.model_dump(mode="json") for change in history],
    }
    data = {version.version: version.data_digest for version in versions}
    changes = [_describe(change, data.get(change.version)) for change in reversed(history)]
    output.show(document, "\n\n".join([format_versions(versions), *(changes or ["there was no champion yet"])]))


def _describe(change: Change, data_digest: str | None) -> str:
    when = datetime.fromtimestamp(change.changed_unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
    before = "" if change.before is None else f" after version {change.before}"
    data = "" if data_digest is None else f", trained on data {data_digest[:DIGEST_DIGITS]}"
    decision = "" if change.decision is None else f", decision {change.decision}"
    head = f"{change.number}. {when}  {change.action}: version {change.version}{before}{data}{decision}"
    why = fill(change.why, WIDTH, initial_indent="   ", subsequent_indent="   ")
    return f"{head}\n{why}"
