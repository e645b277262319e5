"""What a stream does with the rows of a span: the transforms, the contract, and whether they train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tunesmith.data.blocks import Block
from tunesmith.data.breaches import find_breaches
from tunesmith.data.columns import settle_carried
from tunesmith.data.contract import ContractConfig
from tunesmith.data.declared_types import settle_declared, trace_declared
from tunesmith.data.files import SourceFile
from tunesmith.data.origins import Origins, Rows
from tunesmith.data.partition import HASH_BYTES, PURPOSE, CodeArray, cut_fractions, find_weights, repeat_rows
from tunesmith.data.parts import SOURCE
from tunesmith.data.quarantine import SCHEMA, SEPARATOR, Refused, write_as_json
from tunesmith.data.reading import join_blocks
from tunesmith.data.rows import as_fractions, hash_rows
from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream_types import (
    Fitting,
    StreamTypes,
    find_wanted,
)
from tunesmith.data.transforming import Booked, apply_group, group_transforms
from tunesmith.data.transforms import (
    DropDuplicates,
    Sample,
    Shuffle,
    Take,
    Transform,
    digest_functions,
    is_local,
)
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind
from tunesmith.store.keys import compute_key

JSON_FORMATS = ("json", "jsonl")
"""Formats in which a row may leave a column out."""


@dataclass(frozen=True)
class StreamConfig:
    """What is done with the rows of a stream.

    Attributes:
        data: How they are read, transformed and checked.
        examples: What is trained on.
        split: Which of them validate and which test.
    """

    data: DataConfig
    examples: Examples
    split: SplitConfig

    @property
    def key(self) -> str:
        """Names what is done, as a hash."""
        sections = [section.key_fields() for section in (self.data, self.examples, self.split)]
        return compute_key([*sections, digest_functions(self.data.transforms)])

    def check(self) -> None:
        """Refuse what looks at all rows, which a stream never has together.

        Raises:
            DataError: Names it, and what to do instead.
        """
        check_streamable(self.data.transforms, self.data.contract)
        other = next((way for way in ("stratify", "time", "predefined") if getattr(self.split, way) is not None), None)
        if other is not None:
            raise DataError(
                f"split.{other}: not with data.streaming. Leave it out: then each row's own inputs decide, or set "
                "split.group."
            )


def check_streamable(transforms: Sequence[Transform], contract: ContractConfig | None) -> None:
    """Refuse what looks at all rows, which a stream never has.

    Raises:
        DataError: Names the transform or the column, and what to do instead.
    """
    for index, transform in enumerate(transforms):
        if not is_local(transform):
            name, cure = _find_cure(transform)
            raise DataError(
                f"data.transforms[{index}] {name}: looks at all rows, and a stream never has them together. {cure}"
            )
    if contract is not None and contract.unique_columns:
        name = contract.unique_columns[0]
        raise DataError(
            f"data.contract.columns.{name}.unique: looks at all rows, and a stream never has them together. Remove it, "
            "or take data.streaming out."
        )


def read_rows(file: SourceFile, blocks: Sequence[Block], data: DataConfig) -> Rows:
    """The rows of blocks as they are written, with those columns that the transforms keep at once."""
    table = join_blocks(blocks, file)
    source, wanted = data.sources[file.source].name, find_wanted(data.transforms)
    numbers = np.concatenate([np.zeros(0, np.int64), *(np.asarray(block.numbers, np.int64) for block in blocks)])
    origins = Origins((file.prefix,), np.zeros(len(numbers), dtype=np.int32), numbers)
    if source is not None and len(numbers):
        if SOURCE in table.column_names:
            raise DataError(
                f"{file.place}: has a column {SOURCE!r}, where each row gets the name of its source, because there "
                "are several. Give the column another name in the file."
            )
        table = table.append_column(SOURCE, pa.repeat(pa.scalar(source, pa.string()), table.num_rows))
    if wanted is not None:
        table = table.select([name for name in table.column_names if name in wanted])
    return Rows(table, origins)


def take_first(rows: Rows, num_rows: int) -> Rows:
    """The first rows, as they would be read if there were no others."""
    kept = rows.take(np.arange(min(rows.table.num_rows, num_rows)))
    return kept._replace(table=settle_carried(kept.table))


class Made(NamedTuple):
    """What came of a span.

    Attributes:
        rows: With their columns sorted by name.
        refused: Those that break the contract.
        booked: What each transform did.
    """

    rows: Rows
    refused: Refused
    booked: list[Booked]


class RowMaker:
    """Makes of a span the rows that a snapshot has of it, and tells their splits as the split stage does.

    Args:
        config: What is done with the rows.
        types: The types of their columns.
    """

    def __init__(self, config: StreamConfig, types: StreamTypes) -> None:
        self._config, self._types = config, types
        self._groups = [*group_transforms(config.data.transforms)]
        self._declared = trace_declared(self._groups, config.data.contract)
        self._kind = find_kind(config.examples)

    def make(self, file: SourceFile, blocks: Sequence[Block]) -> Made:
        """The rows of a span.

        Raises:
            DataError: A row cannot be used.
        """
        rows, may_lack = read_rows(file, blocks, self._config.data), file.format in JSON_FORMATS
        may_lack = may_lack or rows.table.num_rows == 0
        source, booked = self._config.data.sources[file.source].name or "", list[Booked]()
        for known, declared, group in zip(self._types.stages, self._declared, [*self._groups, ()], strict=True):
            fitting = Fitting(known, declared, self._types.num_sampled)
            rows, steps = apply_group(fitting.fit(source, rows, may_lack=may_lack), group)
            booked += steps
            source, may_lack = "", True
        rows, refused = self._refuse(rows, file)
        rows = rows._replace(table=rows.table.select(sorted(rows.table.column_names)))
        self._kind.check_rows(rows.table, self._config.examples, rows.origins)
        return Made(rows, refused, booked)

    def assign(self, table: pa.Table) -> CodeArray:
        """The split of each row, as the split stage would have it."""
        split = self._config.split
        columns = self._kind.input_columns(self._config.examples) if split.group is None else (split.group,)
        if split.group is not None and split.group not in table.column_names:
            raise DataError(
                f"split.group: there is no column {split.group!r} (columns present: {', '.join(table.column_names)}). "
                "Correct the name."
            )
        fractions = as_fractions(hash_rows(table, columns, purpose=PURPOSE, seed=split.seed, num_bytes=HASH_BYTES))
        return cut_fractions(fractions, split.validation_fraction, split.test_fraction)

    def weigh(self, table: pa.Table) -> pa.Table:
        """Rows that train, as often as the weight of their source says."""
        weights = self._config.data.weights
        if not weights:
            return table
        by_row = find_weights(table, weights)
        hashes = hash_rows(table, table.column_names, purpose="tunesmith weight")
        return table.take(pa.array(repeat_rows(np.arange(table.num_rows), by_row, hashes)))

    def _refuse(self, rows: Rows, file: SourceFile) -> tuple[Rows, Refused]:
        contract = self._config.data.contract
        if contract is None:
            return rows, Refused(SCHEMA.empty_table(), ())
        reasons: dict[int, list[str]] = {}
        for reason, mask in find_breaches(rows.table, contract).items():
            for row in np.flatnonzero(mask).tolist():
                reasons.setdefault(row, []).append(reason)
        taken_out = sorted(reasons)
        kept = np.setdiff1d(np.arange(rows.table.num_rows), taken_out)
        lost = rows.take(np.array(taken_out, dtype=np.int64))
        refused = _describe_refused(lost, file, [reasons[row] for row in taken_out])
        rows = rows.take(kept) if reasons else rows
        return rows._replace(table=settle_declared(rows.table, contract)), refused


def _find_cure(transform: Transform) -> tuple[str, str]:
    match transform:
        case DropDuplicates():
            return "drop_duplicates", "Drop the duplicates where the files are written, or take data.streaming out."
        case Take():
            return "take", "Use `sample` with `fraction`, or set train.max_steps."
        case Sample():
            return "sample.num_rows", "Use `sample` with `fraction`."
        case Shuffle():
            return "shuffle", "Remove it: data.streaming.shuffle_buffer shuffles."
        case _:
            raise AssertionError(f"{type(transform).__name__} is local")


def _describe_refused(rows: Rows, file: SourceFile, reasons: Sequence[Sequence[str]]) -> Refused:
    columns = {
        "file": pa.array([file.label] * len(reasons), pa.string()),
        "line": pa.array(rows.origins.numbers, pa.int64()),
        "reasons": pa.array([SEPARATOR.join(found) for found in reasons], pa.string()),
        "row": pa.array(write_as_json(rows.table, rows.table.column_names), pa.string()),
    }
    return Refused(pa.table(columns, SCHEMA), reasons)
