"""Predictions for a file: every row once, in order, with what the model says beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tunesmith.data.columns import CARRIED
from tunesmith.data.files import SourceFile, find_nearest
from tunesmith.data.origins import Rows
from tunesmith.data.readers import read_files
from tunesmith.data.sources import EXTENSIONS, DataConfig, find_format
from tunesmith.errors import CallError, DataError
from tunesmith.evaluation.progress import track
from tunesmith.evaluation.scoring import find_device
from tunesmith.evaluation.served import ServedModel, find_served_model
from tunesmith.evaluation.writers import find_output_format, open_writer
from tunesmith.kinds import find_kind

CHUNK_BATCHES = 16
"""Batches that are predicted, sorted by length among themselves, before their rows are written."""


class PredictReport(BaseModel):
    """What was predicted."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model_folder: str
    """The model."""
    source: str
    """The file that was read."""
    target: str
    """The file that was written."""
    num_rows: int
    """Rows read, and rows written."""
    added_columns: tuple[str, ...]
    """The columns that the target has beyond those of the source."""
    seconds: float
    """How long predicting took, without loading the model."""


def predict_file(
    model_folder: Path, source: Path, target: Path, *, batch_size: int = 32, overwrite: bool = False
) -> PredictReport:
    """Predict for every row of a file.

    Args:
        model_folder: A model that the export stage wrote; nothing else is needed.
        source: csv, tsv, json, jsonl, parquet or txt, each also with .gz. The label column need not be there.
        target: csv, jsonl (each also with .gz) or parquet, by its extension; it appears when all rows are in it.
        batch_size: Rows that go through the model together.
        overwrite: Whether a target that exists is replaced.

    Returns:
        What was done.

    Raises:
        CallError: The model, the source or the target cannot be used.
        DataError: The source cannot be read, or lacks what the model reads.
    """
    place, served = find_served_model(model_folder)
    if batch_size < 1:
        raise CallError(f"the batch size is {batch_size}; it must be at least 1")
    _check_paths(source, target, overwrite=overwrite)
    rows = _read_source(source)
    table = _as_inputs(rows, source, served)
    start = time.perf_counter()
    added: tuple[str, ...] = ()
    with open_writer(target) as write:
        for chunk, predictions in _predict_chunks(place, served, table, batch_size):
            added = tuple(predictions.column_names)
            write(_add_columns(rows.table.slice(chunk, predictions.num_rows), predictions, source))
    return PredictReport(
        model_folder=str(place),
        source=str(source),
        target=str(target),
        num_rows=table.num_rows,
        added_columns=added,
        seconds=time.perf_counter() - start,
    )


def _check_paths(source: Path, target: Path, *, overwrite: bool) -> None:
    if not source.is_file():
        raise CallError(f"{source}: there is no such file")
    find_output_format(target)
    if not target.parent.is_dir():
        raise CallError(f"{target}: there is no folder {target.parent}")
    if target.is_dir() or (target.exists() and target.samefile(source)):
        raise CallError(f"{target}: is {'a folder' if target.is_dir() else 'the input'}; name another file")
    if target.exists() and not overwrite:
        raise CallError(f"{target}: exists already; name another file, or ask for it to be overwritten")


def _read_source(source: Path) -> Rows:
    file_format = find_format(source.name)
    if file_format is None:
        raise CallError(f"{source}: its name does not say its format; known are {', '.join(EXTENSIONS)}, also with .gz")
    file = SourceFile(path=source, format=file_format, name=source.name, label=str(source))
    return read_files([file], DataConfig(files=(str(source),))).rows


def _as_inputs(rows: Rows, source: Path, served: ServedModel) -> pa.Table:
    """The columns that the model reads, as text; a file of few rows may hold nothing but numbers there."""
    columns = {}
    for name in find_kind(served.examples).input_columns(served.examples):
        if name not in rows.table.column_names:
            present = rows.table.column_names
            raise DataError(
                f"{source}: there is no column {name!r}, which the model reads; columns present: "
                f"{', '.join(map(repr, present))}.{find_nearest(name, present)} Rename the column in the file."
            )
        values = rows.table[name]
        if values.null_count:
            first = rows.origins(pc.index(pc.is_null(values), True).as_py())
            raise DataError(
                f"{first}: no value in column {name!r}, which the model reads ({values.null_count} of {len(values)} "
                "rows have none; this is the first). Fill it in, or leave the rows out."
            )
        if values.type == CARRIED:
            raise DataError(f"{source}: column {name!r}, which the model reads, must hold text; it holds other values")
        columns[name] = values.cast(pa.string())
    return pa.table(columns)


def _predict_chunks(
    place: Path, served: ServedModel, table: pa.Table, batch_size: int
) -> Iterator[tuple[int, pa.Table]]:
    model, tokenizer = _load(place, served)
    kind, device = find_kind(served.examples), find_device()
    model.to(device)
    size = CHUNK_BATCHES * batch_size
    for start in track(range(0, table.num_rows, size), "predicting"):
        rows = table.slice(start, size)
        yield (
            start,
            kind.predict(model, tokenizer, rows, served.examples, served.labels, batch_size=batch_size, device=device),
        )


def _load(place: Path, served: ServedModel) -> tuple[Any, Any]:
    from tunesmith.modeling.load import build_model, load_tokenizer

    # Nothing is at random here: an exported folder holds every weight, so the seed is without effect.
    model = build_model(place, served.examples, served.labels, None, seed=0).eval()
    return model, load_tokenizer(place)


def _add_columns(rows: pa.Table, predictions: pa.Table, source: Path) -> pa.Table:
    for name in predictions.column_names:
        if name in rows.column_names:
            raise DataError(f"{source}: has a column {name!r} already, which predicting adds. Rename it in the file.")
        rows = rows.append_column(name, predictions[name])
    return rows
