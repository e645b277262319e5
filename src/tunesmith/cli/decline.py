"""`tunesmith decline`: no to a promotion that a run asks about."""

from __future__ import annotations

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import answer_question, because_option


@click.command(short_help="Say no to a promotion.")
@click.argument("model")
@because_option
@json_option
@pass_output
def command(output: Output, model: str, because: str) -> None:
    """Decline the promotion of MODEL, such as models:/reviews/3, about which a run asks (gate.approval: manual).

    It stays a candidate, and is not asked about again.
    """
    output.show(*answer_question(model, because, is_approved=False))
