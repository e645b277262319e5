"""Carries the transforms out: those that look at one row part by part, the others on hashes and places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.column_checks import check_present
from tunesmith.data.columns import settle_carried
from tunesmith.data.contract import ContractConfig
from tunesmith.data.declared_types import Declared, trace_declared
from tunesmith.data.mapping import apply_local
from tunesmith.data.origins import IntArray, Origins, Rows
from tunesmith.data.parts import Part, Types, describe_types, load_part, load_places
from tunesmith.data.rows import number_equals
from tunesmith.data.selection import Selection
from tunesmith.data.texts import UNICODE_VERSION
from tunesmith.data.transforms import (
    DropDuplicates,
    DropNull,
    Explode,
    Function,
    RemoveColumns,
    Rename,
    Sample,
    SelectColumns,
    Shuffle,
    Take,
    Transform,
    digest_functions,
    is_local,
)
from tunesmith.errors import DataError
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.ref import Facts

Booked = tuple[int, int, Mapping[str, int]]
"""Of a transform: rows in, rows out, and how many it dropped for which reason."""

MOVES_COLUMNS = (Rename, SelectColumns, RemoveColumns)
"""These leave every value as it is, and look at none."""


@dataclass
class Account:
    """What became of the rows, step by step.

    Attributes:
        steps: Each step with its rows in and out, and how many it dropped for which reason.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: str, rows_in: int, rows_out: int, dropped: Mapping[str, int]) -> None:
        """Book a step."""
        reasons = {reason: number for reason, number in dropped.items() if number}
        self.steps.append({"step": step, "rows_in": rows_in, "rows_out": rows_out, "dropped": reasons})

    def add_group(self, transforms: Sequence[Transform], booked: Sequence[Sequence[Booked]]) -> None:
        """Book transforms, from what each did with each of some parts of the rows."""
        for transform, steps in zip(transforms, zip(*booked, strict=True), strict=True):
            dropped: Counter[str] = Counter()
            for _, _, reasons in steps:
                dropped.update(reasons)
            self.add(_name(transform), sum(step[0] for step in steps), sum(step[1] for step in steps), dropped)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped by all steps, by reason."""
        total: Counter[str] = Counter()
        for step in self.steps:
            total.update(step["dropped"])
        return dict(total)


def transform_rows(
    selection: Selection,
    transforms: Sequence[Transform],
    cache: ChunkCache,
    account: Account,
    contract: ContractConfig | None = None,
) -> Selection:
    """Apply transforms in their order.

    Args:
        selection: The rows.
        transforms: What is done with them.
        cache: Where parts are kept.
        account: Where each transform is booked.
        contract: What the rows must be then; text of a column that it calls text stays text, by each of its names.

    Raises:
        DataError: A transform cannot be applied to the columns that there are, or none of the rows is left.
    """
    groups = [*group_transforms(transforms)]
    texts, *later = [_find_texts(declared) for declared in trace_declared(groups, contract)]
    selection = replace(selection, texts=texts)
    for group, texts in zip(groups, later, strict=True):
        rows_in, first = selection.num_rows, len(account.steps)
        if is_local(group[0]):
            selection = _map_parts(selection, group, cache, account)
        else:
            selection, dropped = _apply_global(selection, group[0], cache)
            account.add(_name(group[0]), rows_in, selection.num_rows, dropped)
        _check_some_left(account.steps[first:])
        selection = replace(selection, texts=texts)
    return selection


def _find_texts(declared: Declared) -> frozenset[str]:
    return frozenset(name for name, kind in declared.items() if kind == "text")


def group_transforms(transforms: Sequence[Transform]) -> Iterator[list[Transform]]:
    """Runs of local transforms that need no look at all rows between them, and each global one by itself."""
    group: list[Transform] = []
    for transform in transforms:
        if group and not _can_follow(group, transform):
            yield group
            group = []
        group.append(transform)
    if group:
        yield group


def _can_follow(group: Sequence[Transform], transform: Transform) -> bool:
    """Whether a transform can run on what a group has made of a part, though the types of all rows may be others."""
    if not (is_local(group[0]) and is_local(transform)) or isinstance(group[-1], Function):
        return False  # what columns a function gives is known when all parts are
    is_blind = isinstance(transform, (*MOVES_COLUMNS, DropNull, Explode))
    return is_blind or all(isinstance(before, MOVES_COLUMNS) for before in group)


def apply_group(rows: Rows, transforms: Sequence[Transform]) -> tuple[Rows, list[Booked]]:
    """Apply local transforms to some of the rows, one after the other; says what each did.

    A column whose other values are gone has a type again.

    Raises:
        DataError: A transform cannot be applied to the columns that there are, or to a value.
    """
    booked = []
    for transform in transforms:
        rows_in = rows.table.num_rows
        rows, dropped = apply_local(rows, transform)
        booked.append((rows_in, rows.table.num_rows, dropped))
    return rows._replace(table=settle_carried(rows.table)), booked


def _map_parts(selection: Selection, transforms: Sequence[Transform], cache: ChunkCache, account: Account) -> Selection:
    types = selection.types
    content = {
        "types": describe_types(types),
        "transforms": [transform.key_fields() for transform in transforms],
        "functions": digest_functions(transforms),
        "unicode": UNICODE_VERSION,
        "code": code_identity(["tunesmith.data.mapping", "tunesmith.data.parts"]),
        "pyarrow": pa.__version__,
    }
    parts = [_map_part(part, types, transforms, content, cache) for part in selection.parts]
    account.add_group(transforms, [part.facts["steps"] for part in parts])
    order = None if selection.order is None else _follow(selection, parts, cache)
    return replace(selection, parts=tuple(parts), order=order)


def _map_part(
    part: Part, types: Types, transforms: Sequence[Transform], content: Mapping[str, Any], cache: ChunkCache
) -> Part:
    def make() -> tuple[Rows, Facts]:
        rows = load_part(part, cache, types)
        origins = replace(rows.origins, places=np.arange(rows.table.num_rows))
        rows, booked = apply_group(rows._replace(origins=origins), transforms)
        return rows, {"steps": booked}

    return part.with_content("mapped", content, cache, make)


def _follow(before: Selection, parts: Sequence[Part], cache: ChunkCache) -> IntArray:
    """The order of the rows that came of rows in some order: each stays where the one was that it came from.

    What came of one row stays together.
    """
    ranks = np.empty(before.num_rows, dtype=np.int64)
    ranks[before.places] = np.arange(before.num_rows)
    starts = np.cumsum([0, *(part.num_rows for part in before.parts)])
    came_of = [start + load_places(part, cache) for start, part in zip(starts, parts, strict=False)]
    return np.argsort(ranks[np.concatenate(came_of)], kind="stable")


def _apply_global(selection: Selection, transform: Transform, cache: ChunkCache) -> tuple[Selection, Mapping[str, int]]:
    everything = sorted(selection.types)
    match transform:
        case DropDuplicates():
            columns = list(dict.fromkeys(transform.drop_duplicates))
            _check_columns(selection, "drop_duplicates", columns)
            hashes = selection.hash(columns, cache, purpose="tunesmith equal")
            kept = np.flatnonzero(number_equals(hashes) == 0)
            reason = f"duplicate {', '.join(columns)}"
        case Take():
            kept = np.arange(min(transform.take, selection.num_rows))
            reason = f"beyond the first {transform.take:,}"
        case Sample():
            seed, num_rows = transform.sample.seed, transform.sample.num_rows
            hashes = selection.hash(everything, cache, purpose="tunesmith sample", seed=seed)
            kept = np.sort(np.argsort(hashes[:, 0], kind="stable")[:num_rows])
            reason = f"not in the sample of {num_rows:,}"
        case Shuffle():
            hashes = selection.hash(everything, cache, purpose="tunesmith mix", seed=transform.shuffle.seed)
            order = selection.places[np.argsort(hashes[:, 0], kind="stable")]
            return replace(selection, order=order), {}
        case _:
            raise TypeError(f"{type(transform).__name__} looks at one row at a time")
    return selection.keep(kept, cache), {reason: selection.num_rows - len(kept)}


def _check_columns(selection: Selection, transform: str, columns: Sequence[str]) -> None:
    table = pa.schema([*selection.types.items()]).empty_table()
    no_numbers = np.zeros(0, dtype=np.int64)
    check_present(Rows(table, Origins((), no_numbers, no_numbers)), transform, columns)


def _check_some_left(steps: Sequence[Mapping[str, Any]]) -> None:
    for step in steps:
        if step["rows_out"] == 0:
            raise DataError(
                f"transform {step['step']}: drops all of the {step['rows_in']:,} rows that reach it "
                f"({', '.join(step['dropped'])}). Correct the transform, or the rows."
            )


def _name(transform: Transform) -> str:
    return next(iter(type(transform).model_fields))
