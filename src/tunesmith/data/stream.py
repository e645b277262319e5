"""Rows that are never on the disk or in memory together: read, made, shuffled and given, and continued at any row."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.files import SourceFile, check_unchanged
from tunesmith.data.partition import SPLITS
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.shuffling import MAX_LANES, EpochOrder, Share
from tunesmith.data.sources import reader_options
from tunesmith.data.spans import FileSpans, SpanReader, find_span_bytes, find_spans, list_spans
from tunesmith.data.stream_quarantine import RefusalLimit, StreamQuarantine
from tunesmith.data.stream_rows import RowMaker, StreamConfig, read_rows, take_first
from tunesmith.data.stream_types import Sample, StreamTypes, learn_types
from tunesmith.errors import DataError
from tunesmith.store.keys import compute_key

SAMPLE_ROWS = 10_000
"""From how many rows of each source the types of a stream's columns are learned."""

BATCH_ROWS = 1_000
"""How many rows a stream gives at a time at most."""

STATE_LAYOUT = 1
"""Grows when the same state would mean another place."""

MAX_OPEN_FILES = 2 * MAX_LANES
"""How many files are open at most; several processes that share a stream leave some without reading their end."""


@dataclass(frozen=True)
class StreamDescription:
    """What must be known of files before their rows can be read in any order.

    Attributes:
        files: Where their spans lie.
        types: What their columns hold.
        config_key: What is done with the rows.
    """

    files: tuple[FileSpans, ...]
    types: StreamTypes
    config_key: str

    @cached_property
    def key(self) -> str:
        """Names the stream's rows, as a hash; where the files lie does not count."""
        files = [[spans.file.source, spans.file.sha256, spans.starts, spans.numbers] for spans in self.files]
        order = {"is_remote": True} if self.is_remote else {}
        return compute_key({"files": files, "types": self.types.as_json(), "config": self.config_key, **order})

    @property
    def is_remote(self) -> bool:
        """Whether a file is copied when it is read, so that none is jumped about in: another order of the rows."""
        return any(spans.file.remote is not None for spans in self.files)

    def write(self, path: Path) -> None:
        """Write it as JSON; where the files lie does not go along."""
        values = {"files": [spans.as_json() for spans in self.files], "types": self.types.as_json()}
        path.write_text(json.dumps({**values, "config_key": self.config_key, "key": self.key}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path, files: Sequence[SourceFile]) -> StreamDescription:
        """What `write` wrote.

        Args:
            path: What was written.
            files: The files, in the order in which they were described.

        Raises:
            DataError: A file holds something else than then.
        """
        values = json.loads(path.read_bytes())
        found = tuple(FileSpans.from_json(spans, file) for spans, file in zip(values["files"], files, strict=True))
        return cls(found, StreamTypes.from_json(values["types"]), values["config_key"])


def describe_stream(
    files: Sequence[SourceFile], config: StreamConfig, num_sampled: int = SAMPLE_ROWS
) -> StreamDescription:
    """Look through files once: where their spans lie, and what their first rows hold.

    Args:
        files: The files, as they were fetched.
        config: What is done with their rows.
        num_sampled: From how many rows of each source the types of the columns are learned.

    Raises:
        DataError: A file cannot be read as a stream, or something is asked that looks at all rows.
    """
    config.check()
    options = [reader_options(config.data.sources[file.source]) for file in files]
    span_bytes = find_span_bytes(files)
    spans = tuple(find_spans(file, how, span_bytes) for file, how in zip(files, options, strict=True))
    _check_headers(spans)
    samples = [*_sample(spans, options, config, num_sampled)]
    types = learn_types(samples, config.data.transforms, config.data.contract, num_sampled)
    return StreamDescription(spans, types, config.key)


@dataclass(frozen=True)
class StreamOrder:
    """Which rows of a stream are given, and in which order.

    Attributes:
        split: `train`, `validation` or `test`.
        shuffle_buffer: For how many rows a row is held back on average; None gives the rows as they lie in the files.
        seed: Another seed is another order; in [0, 2**64).
        share: The part that this process reads.
    """

    split: str = "train"
    shuffle_buffer: int | None = None
    seed: int = 0
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {self.split!r}")


class RowStream:
    """The rows of files, epoch by epoch. Iterating gives the rest of an epoch; once more, the next one.

    Args:
        description: Where the rows lie, and what they hold.
        config: What is done with them: the same that they were described with.
        order: Which of them are given, and in which order.
        quarantine: The folder for rows that the contract refuses; each stands there once, however often it is read.
        batch_rows: How many rows are given at a time at most.

    Raises:
        DataError: A file has changed since it was described.
    """

    def __init__(
        self,
        description: StreamDescription,
        config: StreamConfig,
        order: StreamOrder,
        quarantine: Path,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        files = [replace(spans, file=check_unchanged(spans.file)) for spans in description.files]
        options = [reader_options(config.data.sources[spans.file.source]) for spans in files]
        self._identity = {"layout": STATE_LAYOUT, "stream": description.key, **asdict(order)}
        self._order, self._batch_rows = order, batch_rows
        self._spans = list_spans(files, options)
        self._files = SpanFiles(files, options)
        self._maker = RowMaker(config, description.types)
        self._quarantine = StreamQuarantine(quarantine)
        self._limit = RefusalLimit(config.data.contract, quarantine)
        self._epoch = self._round = self._row = 0
        self._epoch_order = self._find_order()

    def state(self) -> dict[str, Any]:
        """Where the stream is, behind the last row that was given; small JSON values."""
        counts = self._limit.counts_before(self._epoch_order.find_first(self._round))
        place = {"epoch": self._epoch, "round": self._round, "row": self._row}
        return {**self._identity, **place, "checked": counts[0], "refused": counts[1]}

    @property
    def epochs(self) -> float:
        """How many epochs were given so far, by the files' bytes."""
        return self._epoch + self._round / max(1, self._epoch_order.num_rounds)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken: what follows is what followed then, row by row.

        Raises:
            DataError: It is the state of another stream, or of another order.
        """
        for name, expected in self._identity.items():
            if state.get(name) != expected:
                raise DataError(_describe_mismatch(name, state.get(name), expected))
        self._epoch, self._round, self._row = state["epoch"], state["round"], state["row"]
        self._epoch_order = self._find_order()
        self._limit.restart(self._epoch_order.find_first(self._round), (state["checked"], state["refused"]))

    def refused(self) -> Iterator[pa.Table]:
        """The rows that the contract has refused so far, in the order of the files; see `quarantine.SCHEMA`."""
        return self._quarantine.tables()

    def __iter__(self) -> Iterator[pa.Table]:
        """The rows that are left of the epoch, some at a time.

        Raises:
            DataError: A row cannot be used, or the contract refuses too many.
        """
        start, skipped = self._round, self._row
        first = self._epoch_order.find_first(start)
        self._limit.restart(first, self._limit.counts_before(first))
        for number, table in self._epoch_order.read(self._load, start):
            for row in range(skipped if number == start else 0, table.num_rows, self._batch_rows):
                batch = table.slice(row, self._batch_rows)
                is_end = row + batch.num_rows == table.num_rows
                self._round, self._row = (number + 1, 0) if is_end else (number, row + batch.num_rows)
                yield batch
        self._limit.check_whole()
        self._epoch, self._round, self._row = self._epoch + 1, 0, 0
        self._epoch_order = self._find_order()
        self._limit.restart(0, (0, 0))

    def _find_order(self) -> EpochOrder:
        order = self._order
        return EpochOrder(self._spans, order.shuffle_buffer, order.seed, self._epoch, order.share)

    def _load(self, span: int) -> pa.Table:
        """The rows of a span that belong to the split."""
        file, blocks = self._files.read(span)
        rows, refused, _ = self._maker.make(file, blocks)
        self._quarantine.add(span, refused)
        self._limit.add(rows.table.num_rows, refused)
        code = SPLITS.index(self._order.split)
        table = rows.table.filter(pa.array(self._maker.assign(rows.table) == code))
        return self._maker.weigh(table) if self._order.split == "train" else table


class SpanFiles:
    """Reads the spans of files, whose numbers go through all of them.

    Args:
        files: Where their spans lie.
        options: How each file is read.
    """

    def __init__(self, files: Sequence[FileSpans], options: Sequence[ReaderOptions]) -> None:
        self._files, self._options = files, options
        self._firsts = np.cumsum([0, *(spans.num_spans for spans in files)])
        self._readers: OrderedDict[int, SpanReader] = OrderedDict()

    def read(self, span: int) -> tuple[SourceFile, Sequence[Any]]:
        """The rows of a span, and its file."""
        index = int(np.searchsorted(self._firsts, span, side="right")) - 1
        reader = self._readers.pop(index, None) or SpanReader(self._files[index], self._options[index])
        self._readers[index] = reader
        if len(self._readers) > MAX_OPEN_FILES:
            self._readers.popitem(last=False)[1].close()
        return self._files[index].file, reader.read(span - int(self._firsts[index]))


def _sample(
    files: Sequence[FileSpans], options: Sequence[ReaderOptions], config: StreamConfig, num_sampled: int
) -> Iterator[Sample]:
    """The first rows of each source, as they are written."""
    left = dict.fromkeys(range(len(config.data.sources)), num_sampled)
    for spans, how in zip(files, options, strict=True):
        reader = SpanReader(spans, how)
        for index in range(spans.num_spans):
            if left[spans.file.source] <= 0:
                break
            rows = read_rows(spans.file, reader.read(index), config.data)
            rows = take_first(rows, left[spans.file.source])
            left[spans.file.source] -= rows.table.num_rows
            if rows.table.num_rows:
                yield config.data.sources[spans.file.source].name or "", rows
        reader.close()


def _check_headers(files: Sequence[FileSpans]) -> None:
    first: dict[int, FileSpans] = {}
    for spans in files:
        expected = first.setdefault(spans.file.source, spans)
        if set(spans.header or ()) != set(expected.header or ()):
            missing = sorted(set(expected.header or ()) - set(spans.header or ()))
            added = sorted(set(spans.header or ()) - set(expected.header or ()))
            what = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(added)} besides"] * bool(added)
            raise DataError(
                f"{spans.file.place}: other columns than {expected.file.place}: it {' and '.join(what)}. Give the "
                "files the same columns, or make them two sources."
            )


def _describe_mismatch(name: str, found: object, expected: object) -> str:
    what = {"stream": "recipe or other files", "layout": "version of Tunesmith"}.get(name, name)
    return (
        f"the stream cannot be continued: its state was taken with another {what} ({found!r}, now {expected!r}). "
        "Continue with what it was taken with, or begin anew."
    )
