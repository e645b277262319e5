"""Training examples that are read, made and encoded while training goes on, and continued at any batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tunesmith.data.files import SourceFile
from tunesmith.data.partition import ROW_ID, name_rows
from tunesmith.data.quarantine import SCHEMA, SEPARATOR, STREAMED_ROWS
from tunesmith.data.rows import hash_rows
from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import RowStream, StreamOrder
from tunesmith.data.stream_quarantine import StreamQuarantine
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.data.stream_snapshot import open_description
from tunesmith.errors import DataError
from tunesmith.features.batching import CHUNK_BATCHES, Features, plan_even_batches
from tunesmith.features.counts import add_up, refuse_too_long
from tunesmith.features.known_ids import check_known
from tunesmith.kinds import find_kind
from tunesmith.kinds.limit import Limit
from tunesmith.modeling.base import find_vocab_size, read_json
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder
from tunesmith.training.config import TrainConfig
from tunesmith.training.job import Job
from tunesmith.training.prepared import StreamedBatch

Encode = Callable[[pa.Table], pa.Table]
"""Rows -> the features of their examples."""


@dataclass(frozen=True)
class _Group:
    """Examples of which batches are made together.

    Attributes:
        start: Where the rows stood before it.
        features: The examples.
        batches: The numbers of the examples of each batch.
        epochs: How many epochs of the stream were done before it, and behind it.
    """

    number: int
    start: dict[str, Any]
    features: Features
    batches: list[np.ndarray[Any, Any]]
    epochs: tuple[float, float]

    def take(self, index: int) -> StreamedBatch:
        """One of the batches."""
        before, behind = self.epochs
        epoch = before + (behind - before) * (index + 1) / len(self.batches)
        place = {"rows": self.start, "group": self.number, "taken": index + 1, "epoch": epoch}
        return StreamedBatch(self.features, self.batches[index], place, epoch)


class FeatureStream:
    """Micro-batches of a stream, without end: behind an epoch the next one begins.

    Where several processes train together, each reads all of it, and a batch is what all of them take at once. So the
    stream stands at the same place in all of them.

    Some batches' worth of examples make a group, in which batches are made as they are of all examples where all
    are at hand, but of nearly equal size. While a group is trained on, a thread makes the next. So where the stream
    stands is where the rows stood before the group, and how many of its batches were taken.

    Args:
        rows: The rows that train.
        encode: Makes examples of them.
        config: How large batches are.
        groups: Whether examples of like length share a micro-batch.
    """

    def __init__(self, rows: RowStream, encode: Encode, config: TrainConfig, *, groups: bool) -> None:
        self._rows, self._encode, self._config, self._groups = rows, encode, config, groups
        self._tables = self._read()
        self._number = self._taken = 0
        self._group: _Group | None = None
        self._coming: Future[_Group] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")

    def __next__(self) -> StreamedBatch:
        """The next micro-batch.

        Raises:
            DataError: A row cannot be used, or the contract refuses too many.
        """
        while self._group is None or self._taken == len(self._group.batches):
            is_first = self._group is None
            self._group = (self._coming or self._reader.submit(self._fill)).result()
            self._coming = self._reader.submit(self._fill)
            self._taken = self._taken if is_first else 0
        self._taken += 1
        return self._group.take(self._taken - 1)

    def resume(self, place: Mapping[str, Any]) -> None:
        """Go to where a batch said that the stream stood behind it; only before the first batch is asked for.

        Raises:
            DataError: It is a place in another stream.
        """
        self._rows.resume(place["rows"])
        self._number, self._taken = place["group"], place["taken"]

    def close(self) -> None:
        """Stop reading ahead; what was begun is read to its end, so that what is refused does not depend on chance."""
        self._reader.shutdown(wait=True)

    def _fill(self) -> _Group:
        wanted = CHUNK_BATCHES * self._config.common_batch_size
        start, before = self._rows.state(), self._rows.epochs
        tables, num_examples = list[pa.Table](), 0
        while num_examples < wanted:
            tables.append(self._encode(next(self._tables)))
            num_examples += tables[-1].num_rows
            if num_examples == 0 and self._rows.epochs - before > 1:
                _refuse_empty()
        features = Features(pa.concat_tables(tables))
        batches = plan_even_batches(
            features.lengths,
            self._config.common_batch_size,
            group_by_length=self._groups,
            seed=self._config.seed,
            group=self._number,
        )
        self._number += 1
        return _Group(self._number - 1, start, features, batches, (before, self._rows.epochs))

    def _read(self) -> Iterator[pa.Table]:
        """The rows of one epoch after the other; the first may have begun before."""
        num_empty = 0
        while num_empty < 2:
            num_empty += 1
            for table in self._rows:
                yield table
                num_empty = 0
        _refuse_empty()


def _refuse_empty() -> NoReturn:
    raise DataError(
        "the stream has no example to train on: the transforms, the contract, the split or tokenize.on_overflow leave "
        "nothing of its rows. Look at these sections of the recipe."
    )


def open_stream(job: Job, *, groups: bool) -> FeatureStream:
    """The stream of a training.

    Args:
        job: The training.
        groups: Whether examples of like length share a micro-batch.

    Raises:
        DataError: A file or a function has changed since the snapshot.
    """
    assert job.stream is not None
    data = DataConfig.model_validate_json(json.dumps(job.stream.data))
    split = SplitConfig.model_validate_json(json.dumps(job.stream.split))
    config = StreamConfig(data, job.examples, split)
    files = [SourceFile.from_json(file) for file in job.stream.files]
    assert data.streaming is not None
    order = StreamOrder("train", data.streaming.shuffle_buffer, job.train.seed)
    rows = RowStream(open_description(job.stream.snapshot, files, config), config, order, job.quarantine)
    return FeatureStream(rows, make_encode(job, Limit(**job.stream.limit)), job.train, groups=groups)


def make_encode(job: Job, limit: Limit) -> Encode:
    """What makes features of rows as the encode stage does.

    Args:
        job: The training.
        limit: How long an example may be.

    Raises:
        ModelError: When it is called: a row has a token that the model has no embedding for.
    """
    tokenizer = load_tokenizer(job.features / "tokenizer")
    kind, encoder = find_kind(job.examples), make_encoder(tokenizer)
    vocab_size = find_vocab_size(read_json(job.base / "config.json"))
    columns = [*dict.fromkeys(kind.required_columns(job.examples))]

    def encode(rows: pa.Table) -> pa.Table:
        hashes = hash_rows(rows, rows.column_names, purpose="tunesmith row")
        names = name_rows(hashes, np.zeros(len(hashes), dtype=np.int64))
        named = rows.select(columns).add_column(0, ROW_ID, names)
        encoded = kind.encode(named, encoder, job.examples, job.labels, limit)
        number, row = _find_largest_id(encoded.features)
        facts = {**encoded.counts, "max_id": number, "too_long": encoded.too_long}
        refuse_too_long({"train": add_up([facts])}, limit)
        check_known(number, str(tokenizer.convert_ids_to_tokens(number)), f"row {row}", job.base, vocab_size)
        return encoded.features

    return encode


def _find_largest_id(features: pa.Table) -> tuple[int, str | None]:
    """The largest token id, and the name of the first example that has it."""
    ids = features["input_ids"].combine_chunks()
    values = pc.list_flatten(ids).to_numpy(zero_copy_only=False)
    if not len(values):
        return 0, None
    owner = pc.list_parent_indices(ids)[int(values.argmax())].as_py()
    return int(values.max()), features[ROW_ID][owner].as_py()


def keep_refused(job: Job, folder: Path) -> dict[str, Any]:
    """Put what the contract refused while training went on into the folder of the result.

    Returns:
        Facts: how many rows were refused, and for which reasons.
    """
    refused = pa.concat_tables([SCHEMA.empty_table(), *StreamQuarantine(job.quarantine).tables()])
    if refused.num_rows:
        pq.write_table(refused, folder / STREAMED_ROWS, compression="zstd")
    reasons = Counter(reason for text in refused["reasons"].to_pylist() for reason in text.split(SEPARATOR))
    return {"quarantine": {"num_rows": refused.num_rows, "reasons": dict(reasons)}}
