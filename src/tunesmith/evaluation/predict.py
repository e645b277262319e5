"""Predictions for a file: every row once, in order, with what the model says beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tunesmith.errors import CallError, DataError
from tunesmith.evaluation.progress import count_up
from tunesmith.evaluation.scoring import find_device
from tunesmith.evaluation.served import ServedModel, find_served_model
from tunesmith.evaluation.source_rows import InputRows, SourceRows, look_through
from tunesmith.evaluation.writers import find_output_format, open_writer
from tunesmith.kinds import find_kind
from tunesmith.kinds.protocol import LoadedModel

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
    num_too_long: int
    """Rows without a prediction: they are longer than the model takes, and training dropped such rows, too."""
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
        source: Any format that a recipe can name, also compressed. The label column need not be there.
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
    rows = look_through(source, find_kind(served.examples).input_columns(served.examples))
    start = time.perf_counter()
    added: tuple[str, ...] = ()
    num_too_long = 0
    with open_writer(target) as write:
        for part, predictions in _predict_rows(place, served, rows, batch_size):
            added = tuple(predictions.column_names)
            num_too_long += predictions[0].null_count
            write(_add_columns(part.table, predictions, source))
    return PredictReport(
        model_folder=str(place),
        source=str(source),
        target=str(target),
        num_rows=rows.num_rows,
        num_too_long=num_too_long,
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


def _predict_rows(
    place: Path, served: ServedModel, rows: SourceRows, batch_size: int
) -> Iterator[tuple[InputRows, pa.Table]]:
    kind, loaded = find_kind(served.examples), _load(place, served)
    with count_up(rows.num_rows, "predicting") as advance:
        for part in rows.read(CHUNK_BATCHES * batch_size):
            predictions = kind.predict(loaded, part.inputs, served.examples, served.labels, served.limit, batch_size)
            _check_length(predictions, part, served)
            yield part, predictions
            advance(predictions.num_rows)


def _check_length(predictions: pa.Table, rows: InputRows, served: ServedModel) -> None:
    if served.on_overflow != "stop":
        return
    column = predictions[0]
    if column.null_count:
        first = rows.places[pc.index(pc.is_null(column), True).as_py()]
        raise DataError(
            f"{first}: the row is longer than {served.max_length} tokens, which the recipe of this model refuses "
            "(tokenize.on_overflow is stop). Shorten the text, or train with another on_overflow."
        )


def _load(place: Path, served: ServedModel) -> LoadedModel:
    from tunesmith.modeling.load import build_model, load_tokenizer
    from tunesmith.modeling.onnx_model import ONNX_FILE, load_onnx
    from tunesmith.modeling.tokenizer import make_encoder

    if (place / ONNX_FILE).is_file():
        tokenizer = load_tokenizer(place)
        return LoadedModel(load_onnx(place), tokenizer, make_encoder(tokenizer), "cpu")

    # Nothing is at random here: an exported folder holds every weight, so the seed is without effect.
    model, device = build_model(place, served.examples, served.labels, None, seed=0).eval(), find_device()
    tokenizer = load_tokenizer(place)
    return LoadedModel(model.to(device), tokenizer, make_encoder(tokenizer), device)


def _add_columns(rows: pa.Table, predictions: pa.Table, source: Path) -> pa.Table:
    for name in predictions.column_names:
        if name in rows.column_names:
            raise DataError(f"{source}: has a column {name!r} already, which predicting adds. Rename it in the file.")
        rows = rows.append_column(name, predictions[name])
    return rows
