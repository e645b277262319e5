"""`tunesmith run`: the finetune flow, here and now."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.recipe_argument import recipe_argument


@click.command(short_help="Run a recipe.")
@recipe_argument
@json_option
@pass_output
def command(output: Output, recipe: Path, overrides: tuple[str, ...]) -> None:
    """Run RECIPE: data, training, evaluation, decision, export, registration.

    What is there already is not computed again, and what was interrupted goes on from its last checkpoint.
    """
    from tunesmith.cli.finetuning import render_summary, run_finetune

    summary = run_finetune(recipe, overrides)
    output.show(summary.model_dump(mode="json"), render_summary(summary))
