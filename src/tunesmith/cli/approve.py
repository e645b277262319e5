"""`tunesmith approve`: yes to a promotion that a run asks about."""

from __future__ import annotations

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import answer_question, because_option


@click.command(short_help="Say yes to a promotion.")
@click.argument("model")
@because_option
@json_option
@pass_output
def command(output: Output, model: str, because: str) -> None:
    """Approve of the promotion of MODEL, such as models:/reviews/3, about which a run asks (gate.approval: manual).

    The run that waits makes it the champion; where it waits no more, the next run of its recipe does.
    """
    output.show(*answer_question(model, because, is_approved=True))
