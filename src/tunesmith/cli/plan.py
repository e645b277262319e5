"""`tunesmith plan`: check everything, train nothing."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.recipe_argument import recipe_argument
from tunesmith.cli.table import format_bytes, format_table


@click.command(short_help="Check everything and train nothing.")
@recipe_argument
@json_option
@pass_output
def command(output: Output, recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check RECIPE, its data and its base model, and say which stages are cached and why the others are not."""
    from tunesmith.planning import plan
    from tunesmith.provenance import record_recipe
    from tunesmith.recipe import Recipe

    loaded = Recipe.load(recipe, overrides)
    planned = plan(loaded, record_recipe(loaded, recipe, overrides))
    rows = [
        [stage.stage, "cached" if stage.is_cached else "runs", stage.key or "known later", stage.reason]
        for stage in planned.stages
    ]
    dropped = "".join(f", {count:,} dropped by {reason}" for reason, count in planned.dropped.items())
    splits = ", ".join(f"{name} {count:,}" for name, count in planned.num_rows.items())
    steps = "known after encode" if planned.num_steps is None else f"{planned.num_steps:,}"
    lines = [
        format_table(["stage", "state", "key", "why"], rows),
        "",
        f"rows    {planned.num_rows_in:,} read{dropped}; {splits}",
        f"start   {planned.start.text}",
        f"steps   {steps}",
        f"memory  {format_bytes(planned.training_bytes)} at most for weights, gradients, optimizer; activations on top",
    ]
    if planned.approval_hours is not None:
        lines.append(f"gate    a promotion waits {planned.approval_hours:g} hours for a person's approval")
    lines[2:2] = [f"stream  {planned.stream}"] if planned.stream is not None else []
    output.show(planned.model_dump(mode="json"), "\n".join(lines))
