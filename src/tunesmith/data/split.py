"""The split stage: which rows train, which validate, which test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.chunked import ChunkedRows, compose
from tunesmith.data.leakage import find_leaks
from tunesmith.data.nearest import find_nearest
from tunesmith.data.partition import (
    HASH_BYTES,
    PURPOSE,
    ROW_ID,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    CodeArray,
    cut_fractions,
    cut_order,
    find_weights,
    match_values,
    name_rows,
    repeat_rows,
    spread_evenly,
    tell_apart,
)
from tunesmith.data.parts import SOURCE
from tunesmith.data.rows import HashArray, IntArray, as_fractions, number_equals
from tunesmith.data.split_config import PredefinedSplit, SplitConfig, TimeSplit
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)

Weights = Mapping[str, float]
"""Name of a source -> how often its rows count in the train split."""


def derive_split(
    snapshot: Ref, split: SplitConfig, examples: Examples, weights: Weights, store: FolderStore
) -> Derivation:
    """Describe the splits of a snapshot."""

    def build(folder: Path) -> Facts:
        divided = divide(ChunkedRows.open(snapshot.folder), split, examples, weights, store.chunks)
        for name, rows in divided.splits.items():
            rows.write(folder, store.chunks, name)
        log.info("split: %s", ", ".join(f"{rows.num_rows:,} {name}" for name, rows in divided.splits.items()))
        return divided.facts

    return Derivation(
        kind="split",
        ingredients=compose_ingredients(
            config={
                "split": split.key_fields(),
                "examples": {"input_columns": [*_input_columns(examples)]},
                "weights": dict(weights),
            },
            inputs={"snapshot": snapshot.key},
            # Not this module: it knows of all kinds, and another kind must not split the rows anew.
            code=("tunesmith.data.partition", "tunesmith.data.chunked", "tunesmith.data.leakage"),
            libraries=("pyarrow", "numpy", "datasketch"),
        ),
        build=build,
    )


def split(snapshot: Ref, split: SplitConfig, examples: Examples, weights: Weights, store: FolderStore) -> Ref:
    """Put every row of a snapshot into train, validation or test.

    Raises:
        DataError: A split would be empty, a column is missing, or rows leak where the recipe says to stop.
    """
    return store.ensure(derive_split(snapshot, split, examples, weights, store))


@dataclass(frozen=True)
class Divided:
    """A snapshot, divided.

    Attributes:
        splits: The rows of each split, with their names in front.
        facts: Rows of each split, rows that were left out by reason, and what leaks.
    """

    splits: Mapping[str, ChunkedRows]
    facts: Facts


def divide(rows: ChunkedRows, split: SplitConfig, examples: Examples, weights: Weights, cache: ChunkCache) -> Divided:
    """Divide a snapshot's rows; nothing is published.

    Raises:
        DataError: A split would be empty, a column is missing, or rows leak where the recipe says to stop.
    """
    inputs = _input_columns(examples)
    codes = _assign(rows, split, inputs, cache)
    _check_none_empty(codes, split, inputs)
    hashes = rows.hash(rows.schema.names, cache, purpose="tunesmith row")
    numbers = number_equals(hashes)

    def name_places(places: IntArray) -> list[str]:
        names: list[str] = name_rows(hashes[places], numbers[places]).to_pylist()
        return names

    leaks = find_leaks(rows, inputs, codes, split.leakage, name_places)
    kept = np.ones(len(codes), dtype=bool)
    kept[leaks.dropped] = False
    places = {name: np.flatnonzero((codes == code) & kept) for code, name in enumerate(SPLITS)}
    left_out = {leaks.reason: len(leaks.dropped)} if len(leaks.dropped) else {}
    if weights:
        before = places["train"]
        places["train"] = _weigh(rows, before, weights, cache)
        left_out |= _count_thinned(before, places["train"])
    _check_still_there(places, left_out)
    told_apart = tell_apart(hashes, numbers)
    splits = {name: _compose(rows, found, hashes, numbers, told_apart, cache) for name, found in places.items()}
    num_rows = {name: found.num_rows for name, found in splits.items()}
    return Divided(splits, {"num_rows": num_rows, "left_out": left_out, "leakage": leaks.facts})


def _assign(rows: ChunkedRows, split: SplitConfig, inputs: tuple[str, ...], cache: ChunkCache) -> CodeArray:
    if split.time is not None:
        return _assign_by_time(rows, split.time)
    if split.stratify is not None:
        _read_column(rows, "stratify", split.stratify)
        strata = rows.hash([split.stratify], cache, purpose="tunesmith strata", seed=split.seed)
        fractions = spread_evenly(rows.hash(inputs, cache, purpose="tunesmith input"), strata)
    else:
        if split.group is not None:
            _read_column(rows, "group", split.group)
        columns = inputs if split.group is None else (split.group,)
        fractions = as_fractions(rows.hash(columns, cache, purpose=PURPOSE, seed=split.seed, num_bytes=HASH_BYTES))
    codes = cut_fractions(fractions, split.validation_fraction, split.test_fraction)
    return codes if split.predefined is None else _assign_as_told(rows, split.predefined, codes)


def _assign_by_time(rows: ChunkedRows, time: TimeSplit) -> CodeArray:
    column = _read_column(rows, "time.column", time.column)
    if pa.types.is_string(column.type) != isinstance(time.test_from, str) or pa.types.is_boolean(column.type):
        raise DataError(
            f"split.time: column {time.column!r} holds {column.type} values (first: {column[0].as_py()!r}), which "
            f"cannot be compared with test_from {time.test_from!r}. Write validation_from and test_from as the column "
            "has them."
        )
    return cut_order(column, time.validation_from, time.test_from)


def _assign_as_told(rows: ChunkedRows, predefined: PredefinedSplit, by_hash: CodeArray) -> CodeArray:
    column = _read_column(rows, "predefined.column", predefined.column)
    codes = np.full(len(column), TRAIN, dtype=np.int8)
    is_told = np.zeros(len(column), dtype=bool)
    for code, name in enumerate(SPLITS):
        named = match_values(column, getattr(predefined, name) or ())
        codes[named] = code
        is_told |= named
    if predefined.train is not None and not is_told.all():
        _refuse_untold(column.filter(pa.array(~is_told)), predefined)
    for code, values in ((VALIDATION, predefined.validation), (TEST, predefined.test)):
        if values is None:
            codes[(codes == TRAIN) & (by_hash == code)] = code
    return codes


def _refuse_untold(values: pa.ChunkedArray, predefined: PredefinedSplit) -> NoReturn:
    others = sorted(set(map(str, pc.unique(values).to_pylist())))
    raise DataError(
        f"split.predefined: column {predefined.column!r} has {len(others)} values that no split names "
        f"({', '.join(others[:10])}) in {len(values):,} rows. Name them, or leave `train` out: then all that "
        "validation and test do not name train."
    )


def _read_column(rows: ChunkedRows, place: str, name: str) -> pa.ChunkedArray:
    if name not in rows.schema.names:
        raise DataError(
            f"split.{place}: there is no column {name!r} (columns present: {', '.join(rows.schema.names)})."
            f"{find_nearest(name, rows.schema.names)} Correct the name, or keep the column in data.transforms."
        )
    column = rows.read([name])[name]
    if column.null_count:
        raise DataError(
            f"split.{place}: column {name!r} has no value in {column.null_count:,} of {len(column):,} rows. Fill them "
            f"in, or add `drop_null: [{name}]` to data.transforms."
        )
    return column


def _weigh(rows: ChunkedRows, places: IntArray, weights: Weights, cache: ChunkCache) -> IntArray:
    sources = rows.read([name for name in rows.schema.names if name == SOURCE])
    by_row = find_weights(sources, weights)
    hashes = rows.hash(rows.schema.names, cache, purpose="tunesmith weight")
    return repeat_rows(places, by_row[places], hashes[places])


def _count_thinned(before: IntArray, after: IntArray) -> dict[str, int]:
    thinned = len(before) - len(np.unique(after))
    return {"thinned by its source's weight": thinned} if thinned else {}


def _compose(
    rows: ChunkedRows, places: IntArray, hashes: HashArray, numbers: IntArray, told_apart: HashArray, cache: ChunkCache
) -> ChunkedRows:
    def gather(positions: IntArray) -> pa.Table:
        wanted = places[positions]
        names = name_rows(hashes[wanted], numbers[wanted])
        return rows.take(wanted).add_column(0, ROW_ID, names)

    schema = pa.schema([pa.field(ROW_ID, pa.string()), *rows.schema])
    return compose(told_apart[places], schema, gather, cache)


def _check_none_empty(codes: CodeArray, split: SplitConfig, inputs: tuple[str, ...]) -> None:
    counts = dict(zip(SPLITS, np.bincount(codes, minlength=len(SPLITS)).tolist(), strict=True))
    empty = [name for name, number in counts.items() if number == 0]
    if not empty:
        return
    got = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    if split.time is not None or split.predefined is not None:
        how = f"by {'time' if split.time else 'predefined'}: correct the section, or add rows"
    else:
        how = (
            f"validation_fraction {split.validation_fraction}, test_fraction {split.test_fraction}; rows with equal "
            f"{split.group or ', '.join(inputs)} stay together: add rows, or change the fractions or split.seed"
        )
    raise DataError(f"the split leaves {' and '.join(empty)} without rows: {len(codes):,} rows became {got} ({how}).")


def _check_still_there(places: Mapping[str, IntArray], left_out: Mapping[str, int]) -> None:
    empty = [name for name, found in places.items() if not len(found)]
    if empty:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        raise DataError(f"nothing is left in {' and '.join(empty)} ({reasons}). Change split.leakage or the weights.")


def _input_columns(examples: Examples) -> tuple[str, ...]:
    return find_kind(examples).input_columns(examples)
