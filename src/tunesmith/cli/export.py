"""`tunesmith export`: a model in another format, with the proof that it answers the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.store_option import open_named_store, store_option
from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.export.convert import ConvertResult

REGISTERED = "models:/"


@click.command(short_help="Write a model in another format, with its parity report.")
@click.argument("model")
@click.option("--format", required=True, help="safetensors, onnx or onnx-int8.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="export", show_default=True, help="The folder that it goes into."
)
@click.option("--data", type=click.Path(path_type=Path), help="Labeled rows to compare on, instead of the store's.")
@click.option("--max-disagreement", type=float, metavar="FRACTION", help="What onnx-int8 may predict otherwise.")
@store_option
@json_option
@pass_output
def command(
    output: Output,
    model: str,
    format: str,
    out: Path,
    data: Path | None,
    max_disagreement: float | None,
    store: str | None,
) -> None:
    """Write MODEL in a format, and compare it in a clean process with the model as it is.

    MODEL is models:/NAME@champion, models:/NAME/VERSION or the folder of an exported model. It is compared on the test
    examples that it was judged on, where the store has them, or on --data. OUT gets a folder with the format's name,
    and parity.json; a format that is too far off is not written.
    """
    from tunesmith.export.convert import check_format, convert

    check_format(format)
    folder, metric = _find_model(model)
    opened = open_named_store(store)
    found = convert(folder, format, out, opened, data=data, metric=metric, max_disagreement_fraction=max_disagreement)
    found.check()
    output.show(found.model_dump(mode="json"), _describe(found))


def _find_model(model: str) -> tuple[Path, str | None]:
    """The model's folder, and the metric that it was judged by, where that is known."""
    if not model.startswith(REGISTERED):
        return Path(model), None
    from tunesmith.cli.registry_option import find_tracking
    from tunesmith.inference.models import find_model_folder
    from tunesmith.tracking.registry import find_named

    tracking = find_tracking()
    found = find_named(model, tracking)
    folder = find_model_folder(found.uri, "model", Home.locate(os.environ, Path.cwd()), tracking)
    return folder, found.primary_metric


def _describe(found: ConvertResult) -> str:
    from tunesmith.cli.table import format_table
    from tunesmith.report.formats import describe_format

    table = format_table(["", ""], [[name, value] for name, value in describe_format(found.report).items()])
    return f"{found.format} -> {found.target}, compared on {found.examples}\n\n{table}"
