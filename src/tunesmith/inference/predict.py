"""Predictions for files: every row once, in order, with what the model says beside it; a killed run is continued."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.files import SourceFile, check_one_format, find_local_files, tell_apart
from tunesmith.data.s3_files import find_s3_files
from tunesmith.data.source_rows import OPTIONS, InputRows, SourceRows, look_through
from tunesmith.errors import CallError, DataError, UserError
from tunesmith.evaluation.progress import count_up
from tunesmith.evaluation.served import ServedModel, find_served_model
from tunesmith.evaluation.writers import open_writer
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.models import load_served
from tunesmith.inference.shards import RunNote, ShardManifest, Shards
from tunesmith.inference.targets import Target, find_target
from tunesmith.kinds import find_kind
from tunesmith.kinds.protocol import LoadedModel
from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key, file_sha256, folder_digest
from tunesmith.store.s3 import S3Client, is_s3_uri
from tunesmith.training.reading_ahead import read_ahead

CODE = ("tunesmith.inference.predict", "tunesmith.kinds.text_classification", "tunesmith.kinds.text_generation")


def predict_files(
    model_folder: Path, sources: Sequence[str], target: str, work: Path, config: PredictConfig
) -> PredictReport:
    """Predict for every row of some files.

    Args:
        model_folder: A model that the export stage wrote; nothing else is needed.
        sources: Files, globs or `s3://` addresses, all of one format, which may be any that a recipe can name, also
            compressed. The label column need not be there.
        target: A file (csv, jsonl, each also with .gz, or parquet, by its extension), which appears when all rows are
            in it; or a folder, in which shards appear. Either may be on S3.
        work: Where what is not finished is kept on this machine, and sources on S3 are copied to until the target is
            finished; the same folder lets the next run go on.
        config: How.

    Returns:
        What was done.

    Raises:
        CallError: The model, a source or the target cannot be used.
        DataError: A source cannot be read, or lacks what the model reads.
        TunesmithError: S3 cannot be reached.
    """
    place, served = find_served_model(model_folder)
    client = S3Client(config.s3)
    goal = find_target(target, config.shard_format, work, client)
    copies = goal.work / "sources"
    with goal.hold(), _dropping(copies):
        files = _find_files(sources, client, copies)
        goal.check(files, overwrite=config.overwrite)
        kind = find_kind(served.examples)
        rows = look_through(files, kind.input_columns(served.examples))
        key = _compute_key(place, files, goal, config)
        note = RunNote(key=key, num_rows=rows.num_rows, shard_rows=config.shard_rows)
        shards = Shards(goal.place, note, goal.extension, goal.name)
        # What is left in the work area of another run is nobody's: the target would have been it.
        shards.begin(overwrite=config.overwrite or not goal.is_folder)
        report = _Run(place, served, rows, goal, shards, config).finish()
        shutil.rmtree(goal.work)
    return report


@dataclass(frozen=True)
class _Run:
    """One run: what it reads, with which model, and where the shards go."""

    place: Path
    served: ServedModel
    rows: SourceRows
    target: Target
    shards: Shards
    config: PredictConfig

    def finish(self) -> PredictReport:
        """Predict what is not there yet, and make the target of it."""
        with count_up(self.rows.num_rows, "predicting") as advance:
            done = self.shards.find_finished(advance)
            num_kept = sum(shard.num_rows for shard in done.values())
            missing = {*range(self.shards.num_shards)} - {*done}
            loaded = load_served(self.place, self.served, self.config.precision) if missing else None
            start = time.perf_counter()
            if loaded is not None:
                for number, shard in self._make(loaded, missing):
                    done[number] = shard
                    advance(shard.num_rows)
            self.target.finish([self.shards.name(number) for number in range(self.shards.num_shards)])
            seconds = time.perf_counter() - start
        return self._report(done, num_kept, seconds)

    def _make(self, loaded: LoadedModel, missing: Collection[int]) -> Iterator[tuple[int, ShardManifest]]:
        """Shards that are published; the next is read, and the one before written, while the model computes."""
        coming = read_ahead(self.rows.read_shards(self.config.shard_rows, missing))
        pending: tuple[int, Future[ShardManifest]] | None = None
        with closing(coming), ThreadPoolExecutor(1, thread_name_prefix="shards") as publisher:
            for number, part in coming:
                predictions = self._predict(loaded, part)
                if pending is not None:
                    yield pending[0], pending[1].result()
                pending = number, publisher.submit(self._publish, number, part, predictions)
            if pending is not None:
                yield pending[0], pending[1].result()

    def _predict(self, loaded: LoadedModel, rows: InputRows) -> pa.Table:
        served = self.served
        predictions = find_kind(served.examples).predict(
            loaded, rows.inputs, served.examples, served.labels, served.limit, self.config.batch_size
        )
        _check_length(predictions, rows, served)
        return predictions

    def _publish(self, number: int, rows: InputRows, predictions: pa.Table) -> ShardManifest:
        path = self.target.work / f"writing{self.target.extension}"
        with open_writer(path, has_header=self.target.is_folder or number == 0) as write:
            write(_add_columns(rows.table, predictions, self.rows.files[0].place))
        return self.shards.publish(number, path, predictions[0].null_count, tuple(predictions.column_names))

    def _report(self, done: dict[int, ShardManifest], num_kept: int, seconds: float) -> PredictReport:
        num_rows = self.rows.num_rows
        return PredictReport(
            model_folder=str(self.place),
            sources=tuple(file.place for file in self.rows.files),
            target=self.target.name,
            num_rows=num_rows,
            num_kept_rows=num_kept,
            num_too_long=sum(shard.num_too_long for shard in done.values()),
            num_shards=self.shards.num_shards,
            added_columns=done[0].added_columns,
            seconds=seconds,
            rows_per_second=(num_rows - num_kept) / seconds,
        )


@contextmanager
def _dropping(copies: Path) -> Iterator[None]:
    """Drop the copies of a call that is refused; those of one that was stopped are there when it goes on."""
    try:
        yield
    except UserError:
        shutil.rmtree(copies, ignore_errors=True)
        raise


def _find_files(sources: Sequence[str], client: S3Client, copies: Path) -> tuple[SourceFile, ...]:
    found = list[SourceFile]()
    for source in sources:
        if is_s3_uri(source):
            found += find_s3_files(client.find_objects(source), OPTIONS, client, copies)
        else:
            found += find_local_files([source], OPTIONS)
    if not found:
        raise CallError("there is no source; name a file, a glob or an s3:// address")
    check_one_format(found)
    return tell_apart([replace(file, sha256=file.sha256 or file_sha256(file.path)) for file in found])


def _compute_key(place: Path, files: Sequence[SourceFile], target: Target, config: PredictConfig) -> str:
    """What the shards are made of: not where they lie, nor what the files are called."""
    return compute_key(
        {
            "model": folder_digest(place),
            "input": [[file.format, file.sha256] for file in files],
            "config": [config.batch_size, config.shard_rows, config.precision, target.extension, target.is_folder],
            "code": code_identity(CODE),
        }
    )


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


def _add_columns(rows: pa.Table, predictions: pa.Table, source: str) -> pa.Table:
    for name in predictions.column_names:
        if name in rows.column_names:
            raise DataError(f"{source}: has a column {name!r} already, which predicting adds. Rename it in the file.")
        rows = rows.append_column(name, predictions[name])
    return rows
