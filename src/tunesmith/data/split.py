"""The split stage: which rows train, which validate, which test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from tunesmith.data.partition import BoolArray, assign_splits, partition
from tunesmith.data.rows import ROWS, read_rows, write_rows
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind
from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)


class SplitConfig(Section):
    """Which share of the rows validates and which tests; the rest trains."""

    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows that validates, in (0, 1)."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows that tests, in (0, 1)."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Another seed is another split."""

    @field_validator("test_fraction")
    @classmethod
    def _leaves_some_to_train(cls, value: float, info: ValidationInfo) -> float:
        validation = info.data.get("validation_fraction", 0.0)
        if validation + value >= 1:
            raise ValueError(f"and validation_fraction ({validation}) must sum to less than 1, so that some rows train")
        return value


def derive_split(snapshot: Ref, split: SplitConfig, examples: Examples) -> Derivation:
    """Describe the splits of a snapshot."""

    def build(folder: Path) -> Facts:
        table = read_rows(snapshot.folder / ROWS)
        splits = _assign_splits(table, split, examples)
        for name, part in partition(table, splits).items():
            write_rows(part, folder / f"{name}.parquet")
        num_rows = _count(splits)
        log.info("split: %s", ", ".join(f"{number:,} {name}" for name, number in num_rows.items()))
        return {"num_rows": num_rows}

    return Derivation(
        kind="split",
        ingredients=compose_ingredients(
            config={"split": split.key_fields(), "examples": {"input_columns": [*_input_columns(examples)]}},
            inputs={"snapshot": snapshot.key},
            # Not this module: it knows of all kinds, and another kind must not split the rows anew.
            code=("tunesmith.data.partition",),
            libraries=("pyarrow",),
        ),
        build=build,
    )


def split(snapshot: Ref, split: SplitConfig, examples: Examples, store: FolderStore) -> Ref:
    """Split a snapshot's rows into train.parquet, validation.parquet and test.parquet.

    Raises:
        DataError: A split would be empty.
    """
    return store.ensure(derive_split(snapshot, split, examples))


def count_splits(table: pa.Table, split: SplitConfig, examples: Examples) -> dict[str, int]:
    """How many rows of a snapshot's table each split gets.

    Raises:
        DataError: A split would be empty.
    """
    return _count(_assign_splits(table, split, examples))


def _assign_splits(table: pa.Table, split: SplitConfig, examples: Examples) -> dict[str, BoolArray]:
    columns = _input_columns(examples)
    splits = assign_splits(
        table,
        columns,
        validation_fraction=split.validation_fraction,
        test_fraction=split.test_fraction,
        seed=split.seed,
    )
    num_rows = _count(splits)
    empty = [name for name, number in num_rows.items() if number == 0]
    if empty:
        counts = ", ".join(f"{number:,} {name}" for name, number in num_rows.items())
        raise DataError(
            f"the split leaves {' and '.join(empty)} without rows: {table.num_rows:,} rows became {counts} "
            f"(validation_fraction {split.validation_fraction}, test_fraction {split.test_fraction}; rows with equal "
            f"{', '.join(columns)} stay together). Add rows, or change the fractions or split.seed."
        )
    return splits


def _count(splits: Mapping[str, BoolArray]) -> dict[str, int]:
    return {name: int(np.count_nonzero(mask)) for name, mask in splits.items()}


def _input_columns(examples: Examples) -> tuple[str, ...]:
    return find_kind(examples).input_columns(examples)
