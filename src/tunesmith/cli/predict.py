"""`tunesmith predict`: what a model says of every row of some files."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.registry_option import find_tracking
from tunesmith.cli.table import format_seconds
from tunesmith.errors import Preempted
from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.inference.config import PredictReport
    from tunesmith.inference.models import ModelFormat

GO_ON = "what is finished is kept: run the same command again, and it goes on from there"


@click.command(short_help="Score files with a model.")
@click.argument("model")
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Rows at once.")
@click.option("--shard-rows", type=click.IntRange(1), default=4096, show_default=True, help="Rows of a shard.")
@click.option(
    "--shard-format",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    default="parquet",
    show_default=True,
    help="Format of the shards, where TARGET is a folder.",
)
@click.option(
    "--format",
    "model_format",
    type=click.Choice(["model", "onnx", "onnx-int8"]),
    default="model",
    show_default=True,
    help="Which of the model's exports.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="bf16 is faster where the machine computes in it, and rounds differently.",
)
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it exists.")
@json_option
@pass_output
def command(
    output: Output,
    /,
    model: str,
    model_format: ModelFormat,
    sources: tuple[str, ...],
    target: str,
    **options: object,
) -> None:
    """Write every row of SOURCES to TARGET, with what MODEL says beside it.

    MODEL is models:/NAME@champion, models:/NAME/VERSION or the folder of an exported model. SOURCES are files, globs
    or s3:// addresses: csv, tsv, json, jsonl, parquet, arrow or txt, also compressed. TARGET is a csv, jsonl (also
    gzipped) or parquet file, or a folder of shards; it may be on S3, too. A run that was stopped is continued by the
    same command.
    """
    try:
        with _stopping():
            report = _predict(model, model_format, sources, target, options)
    except KeyboardInterrupt:
        output.note(GO_ON)
        raise
    output.show(report.model_dump(mode="json"), _render(report))


def _predict(
    model: str, model_format: ModelFormat, sources: tuple[str, ...], target: str, options: dict[str, object]
) -> PredictReport:
    from tunesmith.inference.batch import predict_batch
    from tunesmith.inference.config import PredictConfig

    home, config = Home.locate(os.environ, Path.cwd()), PredictConfig.model_validate(options)
    return predict_batch(model, model_format, sources, target, home, find_tracking(), config)


def _render(report: PredictReport) -> str:
    text = (
        f"{report.num_rows:,} rows with {', '.join(report.added_columns)} -> {report.target} "
        f"({format_seconds(report.seconds)}, {report.rows_per_second:,.0f} rows a second)"
    )
    if report.num_kept_rows:
        text += f"\n{report.num_kept_rows:,} of them were finished before"
    if report.num_too_long:
        text += f"\n{report.num_too_long:,} rows are too long for the model, and have no prediction"
    return text


@contextmanager
def _stopping() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with an exit code of its own."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Preempted(f"stopped by SIGTERM; {GO_ON}")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
