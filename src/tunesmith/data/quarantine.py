"""Rows that the contract refuses: set apart with their file, their line and every reason, and never lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.breaches import RefusedRow, describe_repeat, find_breaches
from tunesmith.data.columns import to_values
from tunesmith.data.contract import ContractConfig
from tunesmith.data.origins import IntArray
from tunesmith.data.parts import Part, Types, describe_types, load_part
from tunesmith.data.rows import hash_rows, number_equals
from tunesmith.data.selection import Selection
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref

ROWS = "rows.parquet"
STREAMED_ROWS = "quarantine.parquet"
"""The same in a train artifact: what the contract refused of the stream that was trained on."""
SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reasons", pa.string()), ("row", pa.string())])
SEPARATOR = "; "


@dataclass(frozen=True)
class Refused:
    """Rows that a contract refuses.

    Attributes:
        table: Columns file, line, reasons and row, which is JSON; shape (num_refused, 4).
        row_reasons: The reasons of each row.
    """

    table: pa.Table
    row_reasons: Sequence[Sequence[str]]

    @property
    def reasons(self) -> Counter[str]:
        """Reason -> rows that it applies to; a row may have several."""
        return Counter(reason for reasons in self.row_reasons for reason in reasons)

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    def rows(self) -> Iterator[RefusedRow]:
        """One after the other."""
        for row, reasons in zip(self.table.to_pylist(), self.row_reasons, strict=True):
            yield RefusedRow(f"{row['file']}:{row['line']}", tuple(reasons), json.loads(row["row"]))


def refuse_rows(selection: Selection, contract: ContractConfig, cache: ChunkCache) -> tuple[Selection, Refused]:
    """Take out the rows that a contract refuses.

    Returns:
        The other rows, in their order; and those that were taken out.
    """
    types = selection.types
    reasons = _find_reasons(selection, types, contract, cache)
    for column in contract.unique_columns:
        kept = np.setdiff1d(np.arange(selection.num_rows), [*reasons])
        for number in kept[_find_repeats(selection, kept, column, types, cache)]:
            reasons[int(number)] = [describe_repeat(column)]
    if not reasons:
        return selection, Refused(SCHEMA.empty_table(), [])
    taken_out = np.array(sorted(reasons), dtype=np.int64)
    kept = np.setdiff1d(np.arange(selection.num_rows), taken_out)
    refused = selection.keep(taken_out, cache)
    found = [reasons[int(number)] for number in taken_out]
    return selection.keep(kept, cache), Refused(_describe_rows(refused, found, types, cache), found)


def publish_refused(refused: Refused, store: FolderStore) -> Ref:
    """Keep refused rows in the store, under a key that is their content."""

    def build(folder: Path) -> Facts:
        pq.write_table(refused.table, folder / ROWS, compression="zstd")
        return {"num_rows": refused.table.num_rows, "reasons": dict(refused.reasons)}

    digest = hash_rows(refused.table, SCHEMA.names, purpose="tunesmith refuse").tobytes().hex()
    return store.ensure(
        Derivation(
            kind="quarantine",
            ingredients=compose_ingredients(config={}, inputs={"rows": compute_key(digest)}, code=(__name__,)),
            build=build,
        )
    )


def _find_reasons(
    selection: Selection, types: Types, contract: ContractConfig, cache: ChunkCache
) -> dict[int, list[str]]:
    """The reasons of each refused row, by its number in turn."""
    numbers = np.empty(selection.num_rows, dtype=np.int64)
    numbers[selection.places] = np.arange(selection.num_rows)
    start = 0
    reasons: dict[int, list[str]] = {}
    for part in selection.parts:
        for row, found in _check_part(part, types, contract, cache):
            reasons[int(numbers[start + row])] = found
        start += part.num_rows
    return reasons


def _check_part(
    part: Part, types: Types, contract: ContractConfig, cache: ChunkCache
) -> Iterable[tuple[int, list[str]]]:
    checks = {"contract": contract.key_fields(), "types": describe_types(types), "code": code_identity([__name__])}

    def write(path: Path) -> Facts:
        rows = load_part(part, cache, types)
        found: dict[int, list[str]] = {}
        for reason, mask in find_breaches(rows.table, contract).items():
            for row in np.flatnonzero(mask).tolist():
                found.setdefault(row, []).append(reason)
        path.write_text(json.dumps(sorted(found.items())), encoding="utf-8")
        return {"num_rows": len(found)}

    key = compute_key({"part": part.key, "source": part.source, **checks})
    chunk = cache.find("breaches", key) or cache.put("breaches", key, ".txt", write)
    if chunk.facts["num_rows"] == 0:
        return []
    return [(row, found) for row, found in json.loads(cache.ensure("breaches", key, ".txt", write).path.read_bytes())]


def _find_repeats(
    selection: Selection, numbers: IntArray, column: str, types: Types, cache: ChunkCache
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    purpose = "tunesmith unique"
    hashes = selection.hash([column], cache, purpose=purpose)[numbers]
    null = hash_rows(pa.table({column: pa.nulls(1, types[column])}), [column], purpose=purpose)
    is_null = (hashes == null).all(axis=1)
    found: np.ndarray[Any, np.dtype[np.bool_]] = (number_equals(hashes) > 0) & ~is_null
    return found


def _describe_rows(refused: Selection, reasons: Sequence[Sequence[str]], types: Types, cache: ChunkCache) -> pa.Table:
    """The table of refused rows; `refused` lies in the order of the parts, `reasons` in the order of the rows."""
    files: list[str] = []
    lines: list[int] = []
    texts: list[str] = []
    for part in refused.parts:
        rows = load_part(part, cache)  # each value as it was read, and not as the type that all rows have
        files += [part.label] * part.num_rows
        lines += rows.origins.numbers.tolist()
        texts += write_as_json(rows.table, [*types])
    places = refused.places
    return pa.table(
        {
            "file": [files[place] for place in places],
            "line": [lines[place] for place in places],
            "reasons": [SEPARATOR.join(found) for found in reasons],
            "row": [texts[place] for place in places],
        },
        SCHEMA,
    )


def write_as_json(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """Each row as a JSON object; a column that the table lacks is null."""
    nulls = [None] * table.num_rows
    values = [to_values(table[name]) if name in table.column_names else nulls for name in columns]
    return [_write_row(dict(zip(columns, row, strict=True))) for row in zip(*values, strict=True)]


def _write_row(row: Mapping[str, Any]) -> str:
    # Half a character is in no text of Unicode; as it is escaped here, it is in JSON.
    return json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace").decode()
