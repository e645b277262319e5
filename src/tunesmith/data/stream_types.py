"""The types of a stream's columns: settled by the contract and by its first rows, for it never sees all of them.

Where all rows are at hand, a column's type follows from all of its values. Here the contract says the type of the
columns that it names, and a value that does not fit is for quarantine. Of any other column the first rows are taken at
their word, and a later value that does not fit stops the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from tunesmith.data.breaches import check_columns
from tunesmith.data.column_types import ColumnFacts, convert, describe_column
from tunesmith.data.columns import CARRIED, from_values, refuse_carried, shorten, to_values
from tunesmith.data.contract import ContractConfig
from tunesmith.data.declared_types import ARROW_TYPES, Declared, fit_declared, trace_declared
from tunesmith.data.nearest import find_nearest
from tunesmith.data.origins import Rows
from tunesmith.data.partition import ROW_ID
from tunesmith.data.parts import decide_type
from tunesmith.data.transforming import apply_group, group_transforms
from tunesmith.data.transforms import (
    SelectColumns,
    Transform,
)
from tunesmith.errors import DataError

TYPE_WORDS = {
    pa.string(): "text",
    pa.int64(): "whole numbers",
    pa.float64(): "decimal numbers",
    pa.bool_(): "true/false",
}


@dataclass(frozen=True)
class KnownColumn:
    """What the first rows hold in a column.

    Attributes:
        by_source: Name of a source -> what its rows hold; one may write numbers as text, as csv does.
    """

    by_source: Mapping[str, ColumnFacts]

    @property
    def kind(self) -> pa.DataType:
        """The type that all rows have."""
        return decide_type(self.by_source.values(), is_text=False)

    def merge(self, source: str, found: ColumnFacts) -> KnownColumn:
        """With what more rows of a source hold."""
        return KnownColumn({**self.by_source, source: found.merge(self.by_source.get(source, ColumnFacts()))})


Known = dict[str, KnownColumn]

Sample = tuple[str, Rows]
"""Rows, and the name of their source; empty where that counts no more."""


@dataclass(frozen=True)
class StreamTypes:
    """What the columns of a stream hold, before each group of transforms and behind the last.

    Attributes:
        stages: What the first rows hold, column by column.
        num_sampled: How many rows of each source were looked at.
    """

    stages: tuple[Known, ...]
    num_sampled: int

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        stages = [
            [[name, {source: facts.as_json() for source, facts in known.by_source.items()}] for name, known in stage]
            for stage in (stage.items() for stage in self.stages)
        ]
        return {"stages": stages, "num_sampled": self.num_sampled}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StreamTypes:
        """What `as_json` gave."""
        stages = tuple(
            {
                name: KnownColumn({source: ColumnFacts.from_json(facts) for source, facts in by_source.items()})
                for name, by_source in stage
            }
            for stage in values["stages"]
        )
        return cls(stages, values["num_sampled"])


def learn_types(
    samples: Sequence[Sample], transforms: Sequence[Transform], contract: ContractConfig | None, num_sampled: int
) -> StreamTypes:
    """The types of a stream's columns, from its first rows.

    Args:
        samples: Some of the first rows of each source, as they are written.
        transforms: What is done with the rows.
        contract: What they must be.
        num_sampled: How many rows of each source these are at most.

    Raises:
        DataError: A transform cannot be applied, a column of the contract is not there, or one has no type.
    """
    groups = [*group_transforms(transforms)]
    declared = trace_declared(groups, contract)
    stages = [_describe(samples)]
    for group, types in zip(groups, declared, strict=False):
        fitting = Fitting(stages[-1], types, num_sampled)
        samples = [("", apply_group(fitting.fit(source, rows, may_lack=True), group)[0]) for source, rows in samples]
        stages.append(_describe(samples))
    if contract is not None:
        kinds = {
            name: decide_type(known.by_source.values(), is_text=declared[-1].get(name) == "text")
            for name, known in stages[-1].items()
        }
        check_columns(kinds, contract)
    _refuse_untyped([rows for _, rows in samples], stages[-1], declared[-1])
    return StreamTypes(tuple(stages), num_sampled)


def find_wanted(transforms: Sequence[Transform]) -> tuple[str, ...] | None:
    """The columns that are kept before anything is done with them; None for all."""
    first = transforms[0] if transforms else None
    return first.select_columns if isinstance(first, SelectColumns) else None


@dataclass(frozen=True)
class Fitting:
    """Gives rows the types that their columns have in the stream.

    Attributes:
        known: What the first rows hold, column by column.
        declared: Columns whose type the contract says; they stay as they are where a value does not fit.
        num_sampled: How many rows of each source were looked at, for messages.
    """

    known: Mapping[str, KnownColumn]
    declared: Declared
    num_sampled: int

    def fit(self, source: str, rows: Rows, *, may_lack: bool) -> Rows:
        """Rows with the columns of the stream.

        Args:
            source: The name of their source; empty where it counts no more.
            rows: Some rows.
            may_lack: Whether they may leave out a column, which is then null.

        Raises:
            DataError: A column or a value does not fit; names the first.
        """
        for name in rows.table.column_names:
            if name not in self.known and rows.table[name].null_count < rows.table.num_rows:
                _refuse_column(rows, name, self)
        columns = {}
        for name in self.known:
            if name in rows.table.column_names:
                columns[name] = self._fit_column(source, rows, name)
            elif may_lack:
                columns[name] = pa.nulls(rows.table.num_rows, self._kind(name))
            else:
                _refuse_lack(rows, name)
        return rows._replace(table=pa.table(columns)) if columns else rows

    def _fit_column(self, source: str, rows: Rows, name: str) -> pa.ChunkedArray:
        column, known = rows.table[name], self.known[name]
        if name in self.declared:
            return fit_declared(column, self.declared[name])
        if known.merge(source, describe_column(column)).kind != known.kind:
            _refuse_value(source, rows, name, self)
        return convert(column, known.kind)

    def _kind(self, name: str) -> pa.DataType:
        return ARROW_TYPES[self.declared[name]] if name in self.declared else self.known[name].kind


def _describe(samples: Sequence[Sample]) -> Known:
    known: Known = {}
    for source, rows in samples:
        for name in rows.table.column_names:
            known[name] = known.get(name, KnownColumn({})).merge(source, describe_column(rows.table[name]))
    return known


def _refuse_untyped(samples: Sequence[Rows], known: Known, declared: Declared) -> None:
    """Refuse a column that has no type, or the name of one that every row is given."""
    untyped = next((name for name, column in known.items() if name not in declared and column.kind == CARRIED), None)
    if untyped is not None:
        _refuse_carried([rows for rows in samples if untyped in rows.table.column_names], untyped)
    if ROW_ID in known:
        raise DataError(
            f"{samples[0].origins(0)}: the name {ROW_ID!r} is taken: every row gets an id of its own under it. "
            f"Add `rename: {{{ROW_ID}: id}}` to data.transforms."
        )


def _refuse_carried(samples: Sequence[Rows], name: str) -> None:
    """Refuse a column that is carried over all samples, though each alone may look well."""
    values = [convert(rows.table[name], CARRIED) for rows in samples]
    places = [(rows.origins, row) for rows in samples for row in range(rows.table.num_rows)]
    column = pa.chunked_array([chunk for part in values for chunk in part.chunks], CARRIED)
    refuse_carried(pa.table({name: column}), lambda row: places[row][0](places[row][1]))


def _refuse_column(rows: Rows, name: str, fitting: Fitting) -> NoReturn:
    row = rows.table[name].is_valid().to_pylist().index(True)
    raise DataError(
        f"{rows.origins(row)}: column {name!r} is in none of the first {fitting.num_sampled:,} rows of a source, from "
        f"which a stream learns its columns ({', '.join(fitting.known)}).{find_nearest(name, [*fitting.known])} Begin "
        "data.transforms with `select_columns`, or correct the rows."
    )


def _refuse_lack(rows: Rows, name: str) -> NoReturn:
    raise DataError(
        f"{rows.origins(0)}: there is no column {name!r}, which other files have (columns present: "
        f"{', '.join(rows.table.column_names)}). Give the files the same columns."
    )


def _refuse_value(source: str, rows: Rows, name: str, fitting: Fitting) -> NoReturn:
    known, values = fitting.known[name], to_values(rows.table[name])
    described = (known.merge(source, describe_column(from_values([value]))) for value in values)
    row = next((row for row, found in enumerate(described) if found.kind != known.kind), 0)
    held = TYPE_WORDS.get(known.kind, "values of several types")
    if not any(facts.types for facts in known.by_source.values()):
        held = "no value"
    raise DataError(
        f"{rows.origins(row)}: column {name!r} holds {shorten(values[row])}, but {held} in the first "
        f"{fitting.num_sampled:,} rows of each source, from which a stream learns its types. Say what the column holds "
        f"under data.contract.columns.{name}: then rows that do not fit go to quarantine. Or correct the row."
    )
