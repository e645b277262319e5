"""The slice stage: which test rows are in which slice; found before training, so that a mistake costs none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.chunked import ChunkedRows
from tunesmith.errors import DataError
from tunesmith.evaluation.evaluate import NOTHING_TO_CALIBRATE_ON, SLICES, EvaluateConfig
from tunesmith.evaluation.gate import check_floors
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.own_metrics import check_metrics
from tunesmith.evaluation.slices import SliceOptions, digest_slices, find_slices
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref


def derive_slices(splits: Ref, evaluate: EvaluateConfig) -> Derivation:
    """Describe which test rows are in which slice.

    Args:
        splits: The split artifact; in a plan it need not exist yet.
        evaluate: Names the slices. Its metrics are looked at, too, which are needed only after the training.

    Raises:
        DataError: A function for a slice or a metric cannot be used; there is nothing to calibrate on.
    """
    slices = evaluate.slices
    check_metrics(evaluate.metrics)
    if evaluate.calibrate and splits.facts.get("num_rows", {}).get("validation") == 0:
        raise DataError(NOTHING_TO_CALIBRATE_ON)
    return Derivation(
        kind="slice",
        ingredients=compose_ingredients(
            config={"evaluate": {"slices": evaluate.key_fields()["slices"]}},
            inputs={"splits": splits.key, **digest_slices(slices)},
            code=("tunesmith.evaluation.slices",),
            libraries=("pyarrow",),
        ),
        build=lambda folder: _build(folder, splits, slices),
    )


def slice_rows(splits: Ref, evaluate: EvaluateConfig, gate: GateConfig, store: FolderStore) -> Ref:
    """Find the slices of the test rows.

    Returns:
        slices.parquet: `row_id`, and a column of true/false a slice; the facts say how many rows each has.

    Raises:
        DataError: A column is missing or has too many values, a slice is empty or named twice, a function fails, or the
            gate has a floor for a slice that there is not.
    """
    found = store.ensure(derive_slices(splits, evaluate))
    check_floors(gate, [*found.facts["num_rows"]])
    return found


def _build(folder: Path, splits: Ref, slices: Sequence[SliceOptions]) -> Facts:
    table = ChunkedRows.open(splits.folder, "test").read(None if slices else ["row_id"])
    found = find_slices(table, slices)
    columns = {name: pa.array(is_in) for name, is_in in found.items()}
    pq.write_table(pa.table({"row_id": table["row_id"], **columns}), folder / SLICES)
    return {"num_rows": {name: int(is_in.sum()) for name, is_in in found.items()}}
