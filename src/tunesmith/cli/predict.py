"""`tunesmith predict`: what a model says of every row of a file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.table import format_seconds
from tunesmith.home import Home

REGISTERED = "models:/"


@click.command(short_help="Score a file with a model.")
@click.argument("model")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--batch-size", default=32, show_default=True, help="Rows that go through the model together.")
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it exists.")
@json_option
@pass_output
def command(output: Output, model: str, source: Path, target: Path, batch_size: int, overwrite: bool) -> None:
    """Write every row of SOURCE to TARGET, with what MODEL says beside it.

    MODEL is models:/NAME@champion, models:/NAME/VERSION or the folder of an exported model. SOURCE may be csv, tsv,
    json, jsonl, parquet, arrow or txt, also compressed; TARGET csv, jsonl (also gzipped) or parquet.
    """
    from tunesmith.evaluation.predict import predict_file

    report = predict_file(_find_model(model), source, target, batch_size=batch_size, overwrite=overwrite)
    speed = report.num_rows / report.seconds if report.seconds else 0.0
    text = (
        f"{report.num_rows:,} rows with {', '.join(report.added_columns)} -> {report.target} "
        f"({format_seconds(report.seconds)}, {speed:,.0f} rows a second)"
    )
    if report.num_too_long:
        text += f"\n{report.num_too_long:,} rows are too long for the model, and have no prediction"
    output.show(report.model_dump(mode="json"), text)


def _find_model(model: str) -> Path:
    if not model.startswith(REGISTERED):
        return Path(model)
    from tunesmith.tracking.config import TrackingConfig
    from tunesmith.tracking.registry import resolve_model

    home = Home.locate(os.environ, Path.cwd())
    return resolve_model(model, TrackingConfig(uri=home.find_tracking_uri(os.environ)), home.folder / "models")
