"""The snapshot stage: all rows of a recipe's sources, cleaned and checked, under a key that is their content."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.breaches import check_columns, check_fraction
from tunesmith.data.chunked import ChunkedRows, RowsChunk, compose, read_chunk
from tunesmith.data.columns import CARRIED, refuse_carried
from tunesmith.data.earlier import warn_of_drift
from tunesmith.data.files import SourceFile
from tunesmith.data.partition import ROW_ID
from tunesmith.data.parts import Part, Types, describe_types, load_part
from tunesmith.data.profile import PROFILE, Profile, count_duplicates, merge_profiles, profile_part
from tunesmith.data.quarantine import ROWS as REFUSED_ROWS
from tunesmith.data.quarantine import publish_refused, refuse_rows
from tunesmith.data.reading import read_parts
from tunesmith.data.selection import RowReader, Selection
from tunesmith.data.sources import DataConfig
from tunesmith.data.transforming import Account, transform_rows
from tunesmith.data.transforms import digest_functions
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What a recipe's sources hold.

    Attributes:
        rows: The rows, in chunks that lie in the store's cache.
        facts: Rows in, out and dropped by reason, step by step; the columns; the quarantine.
        profile: What the columns hold.
    """

    rows: ChunkedRows
    facts: Facts
    profile: Profile

    @property
    def key(self) -> str:
        """Names the rows; those of a stream together with the stream that they are of."""
        streaming = self.facts.get("streaming")
        return self.rows.key if streaming is None else compose_key(self.rows, streaming["key"])


def derive_snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> Derivation:
    """Describe the snapshot of what was fetched.

    Raises:
        DataError: A transform's function is missing.
    """
    if data.streaming is not None:
        derivation: Derivation = _streamed().derive_stream_snapshot(fetched, data, examples, store)
        return derivation
    files = {file["name"]: file["sha256"] for file in fetched.facts["files"]}

    def build(folder: Path) -> Facts:
        taken = take_snapshot(fetched, data, examples, store)
        taken.rows.write(folder, store.chunks)
        (folder / PROFILE).write_text(taken.profile.model_dump_json(indent=1), encoding="utf-8")
        warn_of_drift(taken.profile, taken.rows.key, store, taken.facts["label_columns"])
        return taken.facts

    return Derivation(
        kind="snapshot",
        ingredients=compose_ingredients(
            config={
                "data": {**data.key_fields(), "files": list_files(fetched, data)},
                "examples": examples.key_fields(),
            },
            inputs={**files, **digest_functions(data.transforms)},
            code=("tunesmith.data.snapshot", kind_module(examples)),
            libraries=("pyarrow",),
        ),
        build=build,
        address=lambda folder: ChunkedRows.open(folder).key,
    )


def snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> Ref:
    """Read what was fetched into rows, transform and check them.

    Raises:
        DataError: A file, a row or a value cannot be used.
    """
    return store.ensure(derive_snapshot(fetched, data, examples, store))


def list_files(fetched: Ref, data: DataConfig) -> list[list[str]]:
    """The names of the files of each source: which source a row is of can be read in its columns."""
    files = fetched.facts["files"]
    return [[file["name"] for file in files if file["source"] == index] for index in range(len(data.sources))]


def take_snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: FolderStore) -> Snapshot:
    """The rows that a snapshot will hold; nothing is published but what the contract refuses.

    Raises:
        DataError: A file, a row or a value cannot be used.
    """
    if data.streaming is not None:
        taken: Snapshot = _streamed().take_stream_snapshot(fetched, data, examples, store)
        return taken
    cache, account = store.chunks, Account()
    files = [SourceFile.from_json(file) for file in fetched.facts["files"]]
    reading = read_parts(files, data, cache)
    blank = {"blank line": reading.num_blank}
    selection = Selection(reading.parts)
    account.add("read", selection.num_rows + reading.num_blank, selection.num_rows, blank)
    selection = transform_rows(selection, data.transforms, cache, account, data.contract)
    selection, quarantine = _apply_contract(selection, data, store, account)
    types = _settle_types(selection, cache)
    code = code_identity([kind_module(examples)])
    for part in selection.parts:
        _check_part(part, types, examples, code, cache)
    hashes = selection.hash([*types], cache, purpose="tunesmith row")
    rows = compose(hashes, pa.schema([*types.items()]), RowReader(selection, types, cache).take, cache)
    kind = find_kind(examples)
    kind.check_whole(rows, examples)
    facts = {
        "num_rows": rows.num_rows,
        "rows_in": account.steps[0]["rows_in"],
        "dropped": account.dropped,
        "steps": account.steps,
        "quarantine": quarantine,
        "columns": {name: str(kind) for name, kind in types.items()},
        "label_columns": sorted({*kind.required_columns(examples)} - {*kind.input_columns(examples)}),
        "digest": rows.digest,
        "files": [{"name": file.name, "rows": n} for file, n in zip(files, reading.rows_of_file, strict=True)],
        "assumed": fetched.facts["assumed"],
    }
    log.info("snapshot: %s", _describe(facts))
    return Snapshot(rows, facts, profile_rows(rows, count_duplicates(hashes), cache))


def _streamed() -> Any:
    # By name: what streams is no part of the code identity of a snapshot that holds all rows.
    return import_module("tunesmith.data.stream_snapshot")


def compose_key(sample: ChunkedRows, stream_key: str) -> str:
    """Names the snapshot of a stream: the sample, and the stream that it is of."""
    return compute_key([sample.key, stream_key])


def profile_rows(rows: ChunkedRows, num_duplicates: int, cache: ChunkCache) -> Profile:
    """The profile of all rows; a chunk that was looked at before is not looked at again."""
    code = code_identity(["tunesmith.data.profile"])
    parts = []
    for chunk in rows.chunks:

        def write(path: Path, chunk: RowsChunk = chunk) -> Facts:
            path.touch()
            return profile_part(read_chunk(chunk.path))

        key = compute_key({"chunk": chunk.key, "code": code})
        parts.append((cache.find("profiles", key) or cache.put("profiles", key, ".txt", write)).facts)
    return merge_profiles(parts, num_duplicates=num_duplicates)


def _apply_contract(
    selection: Selection, data: DataConfig, store: FolderStore, account: Account
) -> tuple[Selection, Facts]:
    contract = data.contract
    if contract is None:
        return selection, {"key": None, "num_rows": 0, "reasons": {}}
    check_columns(selection.types, contract)
    kept, refused = refuse_rows(selection, contract, store.chunks)
    account.add("contract", selection.num_rows, kept.num_rows, {"quarantined": refused.num_rows})
    if not refused.num_rows:
        return selection, {"key": None, "num_rows": 0, "reasons": {}}
    ref = publish_refused(refused, store)
    log.info("snapshot: %s rows in quarantine: %s", f"{refused.num_rows:,}", ref.folder / REFUSED_ROWS)
    check_fraction(refused.rows(), refused.num_rows, selection.num_rows, contract)
    return kept, {"key": ref.key, **ref.facts}


def _settle_types(selection: Selection, cache: ChunkCache) -> dict[str, pa.DataType]:
    """The columns of the snapshot, sorted by name."""
    types = dict(sorted(selection.types.items()))
    carried = [name for name, kind in types.items() if kind == CARRIED]
    if carried:
        _refuse_carried(selection, carried[0], cache)
    if ROW_ID in types:
        raise DataError(
            f"{selection.parts[0].label}: the name {ROW_ID!r} is taken: every row gets an id of its own under it. "
            f"Add `rename: {{{ROW_ID}: id}}` to data.transforms."
        )
    return types


def _refuse_carried(selection: Selection, name: str, cache: ChunkCache) -> None:
    """Refuse a column that is carried over all parts, though each part alone may look well."""
    parts = [load_part(part, cache, {name: CARRIED}) for part in selection.parts]
    starts = [0]
    for rows in parts:
        starts.append(starts[-1] + rows.table.num_rows)

    def find_origin(row: int) -> str:
        owner = next(index for index, start in enumerate(starts[1:]) if row < start)
        return parts[owner].origins(row - starts[owner])

    refuse_carried(pa.concat_tables([rows.table for rows in parts]), find_origin)


def _check_part(part: Part, types: Types, examples: Examples, code: Mapping[str, str], cache: ChunkCache) -> None:
    """Refuse rows that cannot be trained on; a part that was accepted before is not looked at again."""

    def write(path: Path) -> Facts:
        rows = load_part(part, cache, types)
        find_kind(examples).check_rows(rows.table, examples, rows.origins)
        path.touch()
        return {}

    key = compute_key(
        {
            "part": part.key,
            "source": part.source,
            "types": describe_types(types),
            "examples": examples.key_fields(),
            "code": code,
        }
    )
    if cache.find("accepted", key) is None:
        cache.put("accepted", key, ".txt", write)


def _describe(facts: Facts) -> str:
    files, dropped = facts["files"], facts["dropped"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
    return (
        f"{facts['rows_in']:,} rows read from {len(files)} {'file' if len(files) == 1 else 'files'}, "
        f"{facts['num_rows']:,} kept" + (f", dropped: {reasons}" if dropped else "")
    )
