"""One file of its shards, which appears when all rows are in it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from tunesmith.evaluation.writers import OutputFormat
from tunesmith.store.keys import file_sha256
from tunesmith.store.s3 import S3Client


def assemble(parts: Sequence[Path], output_format: OutputFormat, target: Path) -> None:
    """Write the rows of all parts to a file, in their order.

    Args:
        parts: At least one, of the same columns. Of text, the first alone has a header; compressed parts are members
            of the one compressed file.
        output_format: Their format.
        target: Replaced in one step, after its bytes are on the disk.
    """
    for left in target.parent.glob(f".{target.name}.aside-*"):  # of a run that was killed here
        left.unlink(missing_ok=True)
    aside = target.with_name(f".{target.name}.aside-{uuid.uuid4().hex}")
    try:
        if output_format == "parquet":
            _join_parquet(parts, aside)
        else:
            with aside.open("wb") as file:
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, file)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def assemble_on_s3(
    parts: Sequence[Path], output_format: OutputFormat, uri: str, client: S3Client, scratch: Path
) -> None:
    """The same, as one object that appears at once."""
    whole = scratch / "whole"
    try:
        assemble(parts, output_format, whole)
        client.upload(whole, uri, file_sha256(whole))
    finally:
        whole.unlink(missing_ok=True)


def _join_parquet(parts: Sequence[Path], target: Path) -> None:
    with pq.ParquetWriter(target, pq.read_schema(parts[0])) as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for number in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(number))
