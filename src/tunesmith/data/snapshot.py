"""The snapshot stage: all rows of a recipe's files, cleaned and checked, under a key that is their content."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.cleaning import apply_transforms
from tunesmith.data.columns import refuse_carried, settle
from tunesmith.data.files import SourceFile, find_files
from tunesmith.data.functions import function_digest
from tunesmith.data.origins import Rows
from tunesmith.data.partition import ROW_ID
from tunesmith.data.readers import read_files
from tunesmith.data.rows import DIGEST_FIELD, ROWS, compute_digest, write_rows
from tunesmith.data.sources import DataConfig
from tunesmith.data.transforms import Function
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import KEY_LENGTH, file_sha256
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)


def derive_snapshot(data: DataConfig, examples: Examples) -> Derivation:
    """Describe the snapshot of a recipe's files.

    Raises:
        DataError: A file or a transform's function is missing.
    """
    files = {file.name: _digest_file(file) for file in find_files(data)}

    def build(folder: Path) -> Facts:
        _, facts, table = read_snapshot(data, examples)
        write_rows(table.replace_schema_metadata({DIGEST_FIELD: facts["digest"]}), folder / ROWS)
        return facts

    return Derivation(
        kind="snapshot",
        ingredients=compose_ingredients(
            config={"data": {**data.key_fields(), "files": [*files]}, "examples": examples.key_fields()},
            inputs={**files, **_digest_functions(data)},
            code=("tunesmith.data.snapshot", kind_module(examples)),
            libraries=("pyarrow",),
        ),
        build=build,
        address=lambda folder: pq.read_schema(folder / ROWS).metadata[DIGEST_FIELD].decode()[:KEY_LENGTH],
    )


def snapshot(data: DataConfig, examples: Examples, store: FolderStore) -> Ref:
    """Read a recipe's files into rows.parquet.

    Raises:
        DataError: A file, a row or a value cannot be used.
    """
    return store.ensure(derive_snapshot(data, examples))


def read_snapshot(data: DataConfig, examples: Examples) -> tuple[str, Facts, pa.Table]:
    """What the snapshot of a recipe's files will be; nothing is written.

    Returns:
        Its key, its facts and its rows, with the columns sorted by name.

    Raises:
        DataError: A file, a row or a value cannot be used.
    """
    files = find_files(data)
    reading = read_files(files, data)
    rows, dropped = apply_transforms(reading.rows, data.transforms)
    if reading.num_blank:
        dropped["blank line"] += reading.num_blank
    table = _settle(rows)
    find_kind(examples).check_rows(table, examples, rows.origins)
    facts = {
        "num_rows": table.num_rows,
        "rows_in": sum(reading.rows_of_file) + reading.num_blank,
        "dropped": dict(dropped),
        "columns": {field.name: str(field.type) for field in table.schema},
        "digest": compute_digest(table),
        "files": [{"name": file.name, "rows": n} for file, n in zip(files, reading.rows_of_file, strict=True)],
    }
    log.info("snapshot: %s", _describe(facts))
    return facts["digest"][:KEY_LENGTH], facts, table


def _settle(rows: Rows) -> pa.Table:
    table = pa.table({name: settle(rows.table[name]) for name in sorted(rows.table.column_names)})
    refuse_carried(table, rows.origins)
    if ROW_ID in table.column_names:
        raise DataError(
            f"{rows.origins(0)}: the name {ROW_ID!r} is taken: every row gets an id of its own under it. "
            f"Add `rename: {{{ROW_ID}: id}}` to data.transforms."
        )
    return table


def _digest_functions(data: DataConfig) -> dict[str, str]:
    options = [transform.function for transform in data.transforms if isinstance(transform, Function)]
    return {f"function {function.path}": function_digest(function) for function in options}


def _digest_file(file: SourceFile) -> str:
    try:
        return file_sha256(file.path)
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}.") from None


def _describe(facts: Facts) -> str:
    num_files, dropped = len(facts["files"]), facts["dropped"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
    return (
        f"{facts['rows_in']:,} rows read from {num_files} {'file' if num_files == 1 else 'files'}, "
        f"{facts['num_rows']:,} kept" + (f", dropped: {reasons}" if dropped else "")
    )
