"""The snapshot of a stream: an index of all of it, and a sample of its rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.breaches import check_fraction
from tunesmith.data.chunked import ChunkedRows, compose
from tunesmith.data.files import SourceFile
from tunesmith.data.profile import PROFILE, count_duplicates
from tunesmith.data.quarantine import SCHEMA, Refused, publish_refused
from tunesmith.data.rows import hash_rows
from tunesmith.data.shuffling import EpochOrder
from tunesmith.data.snapshot import Snapshot, compose_key, list_files, profile_rows
from tunesmith.data.sources import DataConfig, reader_options
from tunesmith.data.spans import list_spans
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import SpanFiles, StreamDescription, describe_stream
from tunesmith.data.stream_rows import RowMaker, StreamConfig
from tunesmith.data.transforming import Account, Booked
from tunesmith.data.transforms import digest_functions
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.store.code import code_identity
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)

STREAM = "stream.json"
"""The index: where the rows lie, and what their columns hold."""

SAMPLE_EPOCH = 1 << 29
"""The sample is the beginning of an epoch that no training reaches."""


def derive_stream_snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> Derivation:
    """Describe the snapshot of a stream.

    Raises:
        DataError: A transform's function is missing.
    """
    assert data.streaming is not None
    files = {file["name"]: file["sha256"] for file in fetched.facts["files"]}
    is_remote = any(file["remote"] is not None for file in fetched.facts["files"])

    def build(folder: Path) -> Facts:
        taken = take_stream_snapshot(fetched, data, examples, store)
        taken.rows.write(folder, store.chunks)
        _describe(fetched, data, examples, store).write(folder / STREAM)
        (folder / PROFILE).write_text(taken.profile.model_dump_json(indent=1), encoding="utf-8")
        return taken.facts

    return Derivation(
        kind="snapshot",
        ingredients=compose_ingredients(
            config={
                "data": {
                    **data.key_fields(),
                    "files": list_files(fetched, data),
                    "sample_rows": data.streaming.sample_rows,
                },
                "is_remote": is_remote,
                "examples": examples.key_fields(),
            },
            inputs={**files, **digest_functions(data.transforms)},
            code=(__name__, kind_module(examples)),
            libraries=("numpy", "pyarrow"),
        ),
        build=build,
        address=lambda folder: compose_key(ChunkedRows.open(folder), json.loads((folder / STREAM).read_bytes())["key"]),
    )


def take_stream_snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> Snapshot:
    """A sample of the rows of a stream; nothing is published but what the contract refuses of it.

    Raises:
        DataError: A file, a row or a value cannot be used.
    """
    assert data.streaming is not None
    description = _describe(fetched, data, examples, store)
    sample = _Sample(data, examples, description)
    table = sample.take(data.streaming.sample_rows)
    hashes = hash_rows(table, table.column_names, purpose="tunesmith row")
    quarantine = _publish_refused(sample, data, store)
    rows = compose(hashes, table.schema, lambda places: table.slice(places[0], len(places)), store.chunks)
    find_kind(examples).check_whole(rows, examples)
    account = sample.account(rows.num_rows)
    facts = {
        "num_rows": rows.num_rows,
        "rows_in": sample.num_read,
        "dropped": account.dropped,
        "steps": account.steps,
        "quarantine": quarantine,
        "columns": {field.name: str(field.type) for field in rows.schema},
        "digest": rows.digest,
        "files": [{"name": spans.file.name, "rows": spans.num_lines} for spans in description.files],
        "assumed": fetched.facts["assumed"],
        "streaming": {
            "key": description.key,
            "num_lines": sum(spans.num_lines for spans in description.files),
            "size_bytes": sum(spans.file.size_bytes for spans in description.files),
            "num_files": len(description.files),
        },
    }
    log.info("snapshot: a sample of %s rows of a stream: %s", f"{rows.num_rows:,}", describe_size(facts["streaming"]))
    return Snapshot(rows, facts, profile_rows(rows, count_duplicates(hashes), store.chunks))


def open_description(folder: Path, fetched: Sequence[SourceFile], config: StreamConfig) -> StreamDescription:
    """The index in a snapshot's folder, for what is done with the rows in training.

    Args:
        folder: The folder of the snapshot.
        fetched: The files, as they were fetched for it.
        config: What is done with the rows, with the recipe's own split.

    Raises:
        DataError: A file or a function has changed.
    """
    description = StreamDescription.read(folder / STREAM, fetched)
    if StreamConfig(config.data, config.examples, SplitConfig()).key != description.config_key:
        raise DataError(
            "a function of data.transforms has changed since the snapshot of the stream was taken with it. Run again: "
            "the rows are read anew."
        )
    return StreamDescription(description.files, description.types, config.key)


def describe_size(streaming: Facts) -> str:
    """How much a stream holds, in words.

    Example:
        >>> describe_size({"num_files": 2, "size_bytes": 3000, "num_lines": 40})
        '2 files, 3,000 bytes, about 40 rows by lines'
    """
    files = "1 file" if streaming["num_files"] == 1 else f"{streaming['num_files']:,} files"
    return f"{files}, {streaming['size_bytes']:,} bytes, about {streaming['num_lines']:,} rows by lines"


@dataclass
class _Sample:
    """The first rows of an epoch, whichever split they are in."""

    data: DataConfig
    examples: Examples
    description: StreamDescription
    num_read: int = 0
    num_made: int = 0
    booked: list[list[Booked]] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = [reader_options(self.data.sources[spans.file.source]) for spans in self.description.files]
        self._files = SpanFiles(self.description.files, options)
        self._spans = list_spans(self.description.files, options)
        self._maker = RowMaker(StreamConfig(self.data, self.examples, SplitConfig()), self.description.types)

    def take(self, num_rows: int) -> pa.Table:
        """So many rows, or all that there are; from about twice as many, so that neighbours come apart."""
        tables, missing = list[pa.Table](), num_rows
        for round_ in EpochOrder(self._spans, max(1, num_rows // 2), epoch=SAMPLE_EPOCH).read(self._load):
            tables.append(round_.table.slice(0, missing))
            missing -= tables[-1].num_rows
            if missing == 0:
                break
        return pa.concat_tables(tables) if tables else pa.table({})

    def account(self, num_rows: int) -> Account:
        """What became of the rows that were read."""
        account, num_refused = Account(), sum(refused.num_rows for refused in self.refused.values())
        num_checked = self.num_made + num_refused
        account.add("read", self.num_read, self.num_read, {})
        account.add_group(self.data.transforms, self.booked)
        account.add("contract", num_checked, self.num_made, {"quarantined": num_refused})
        account.add("sample", self.num_made, num_rows, {"not in the sample": self.num_made - num_rows})
        return account

    def _load(self, span: int) -> pa.Table:
        file, blocks = self._files.read(span)
        self.num_read += sum(len(block.numbers) for block in blocks)
        rows, refused, booked = self._maker.make(file, blocks)
        self.booked.append(booked)
        self.num_made += rows.table.num_rows
        if refused.num_rows:
            self.refused[span] = refused
        return rows.table


def _describe(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> StreamDescription:
    """The index of the files, made once."""
    files = [SourceFile.from_json(file) for file in fetched.facts["files"]]
    config = StreamConfig(data, examples, SplitConfig())
    identity: dict[str, Any] = {"files": [[file.source, file.sha256] for file in files]}
    identity |= {"config": config.key, "code": code_identity([__name__])}
    identity |= {"is_remote": any(file.remote is not None for file in files)}
    chunk = store.chunks.ensure(
        "streams", compute_key(identity), ".txt", lambda path: describe_stream(files, config).write(path)
    )
    return StreamDescription.read(chunk.path, files)


def _publish_refused(sample: _Sample, data: DataConfig, store: FolderStore) -> Facts:
    """Keep what the contract refuses of the sample, and stop where it is too much."""
    found = [sample.refused[span] for span in sorted(sample.refused)]
    tables = pa.concat_tables([SCHEMA.empty_table(), *(refused.table for refused in found)])
    refused = Refused(tables, [reasons for each in found for reasons in each.row_reasons])
    if data.contract is None or not refused.num_rows:
        return {"key": None, "num_rows": 0, "reasons": {}}
    ref = publish_refused(refused, store)
    log.info("snapshot: %s rows of the sample in quarantine: %s", f"{refused.num_rows:,}", ref.folder)
    check_fraction(refused.rows(), refused.num_rows, refused.num_rows + sample.num_made, data.contract)
    return {"key": ref.key, **ref.facts}
