"""The types that a contract says: of its columns, and of those that they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tunesmith.data.column_types import convert, describe_column
from tunesmith.data.contract import ColumnType, ContractConfig
from tunesmith.data.transforms import Derive, Explode, Function, Map, Rename, Transform
from tunesmith.data.values import to_texts

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "whole": pa.int64(),
    "decimal": pa.float64(),
    "bool": pa.bool_(),
}

Declared = Mapping[str, ColumnType]
"""The columns whose type the contract says."""


def trace_declared(groups: Sequence[Sequence[Transform]], contract: ContractConfig | None) -> list[Declared]:
    """The columns whose type the contract says, before each group of transforms and behind the last."""
    declared: Declared = {} if contract is None else {name: column.type for name, column in contract.columns.items()}
    found: list[Declared] = [declared]
    for group in reversed(groups):
        for transform in reversed(group):
            declared = _trace_back(declared, transform)
        found.append(declared)
    return found[::-1]


def fit_declared(column: pa.ChunkedArray, declared: ColumnType) -> pa.ChunkedArray:
    """A column as its declared type, where all of its values fit; otherwise as it is."""
    facts, kind = describe_column(column), ARROW_TYPES[declared]
    if not facts.types:
        return pa.nulls(len(column), kind)
    found = pa.string() if declared == "text" and facts.types == {"text"} else facts.decide()
    fits = found == kind or (declared == "decimal" and found == pa.int64() and facts.is_exact)
    return convert(column, kind) if fits else column


def settle_declared(table: pa.Table, contract: ContractConfig) -> pa.Table:
    """Give the columns of a contract their types, when the rows that break it are gone."""
    for name, column in contract.columns.items():
        kind, values = ARROW_TYPES[column.type], table[name]
        if values.type != kind:
            settled = convert(to_texts(values).texts, kind)
            table = table.set_column(table.column_names.index(name), name, settled)
    return table


def _trace_back(declared: Declared, transform: Transform) -> Declared:
    """The declared columns before a transform: those whose values it may change have no type there, but text stays."""
    match transform:
        case Rename():
            before = {new: old for old, new in transform.rename.items()}
            return {before.get(name, name): kind for name, kind in declared.items()}
        case Function():
            return {name: kind for name, kind in declared.items() if kind == "text"}
        case Map() | Explode() | Derive():
            changed = _find_changed(transform)
            return {name: kind for name, kind in declared.items() if kind == "text" or name not in changed}
    return declared


def _find_changed(transform: Map | Explode | Derive) -> set[str]:
    match transform:
        case Map():
            return set(transform.map)
        case Explode():
            return set(transform.explode)
        case Derive():
            return {transform.derive.into}
