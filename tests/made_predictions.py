"""Predictions of models that are as good as a test wants them to be, and the rows that they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from split_rows import write_splits
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

EXAMPLES = TextClassification(kind="text-classification", text="review", label="verdict", labels=("bad", "good"))
LABELS = ("bad", "good")


def make_predictions(accuracy: float, num_rows: int = 100, labels: tuple[str, ...] = LABELS) -> pa.Table:
    """Of two models, the better one has all rows right that the other has right."""
    truth = np.arange(num_rows) % len(labels)
    is_right = np.arange(num_rows) < round(accuracy * num_rows)
    predicted = np.where(is_right, truth, (truth + 1) % len(labels))
    logits = np.eye(len(labels))[predicted] + 0.5
    return pa.table(
        {
            "row_id": [f"{row:016x}" for row in range(num_rows)],
            "label": [labels[number] for number in truth],
            "prediction": [labels[number] for number in predicted],
            "probability": np.full(num_rows, 0.7),
            "logits": pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32())),
        }
    )


def make_splits(folder: Path, store: FolderStore, num_rows: int = 100) -> Ref:
    """The split artifact with the test rows."""
    rows = make_predictions(1.0, num_rows).select(["row_id", "label"]).rename_columns(["row_id", "verdict"])
    rows = rows.append_column("review", pa.array([f"text {row}" for row in range(num_rows)]))
    splits = Ref(kind="split", key="splits", uri=str(folder))
    if not folder.exists():
        write_splits(splits, {"test": rows}, store.chunks)
    return splits


def write_report(folder: Path, accuracy: float, baseline: float, num_rows: int = 100) -> None:
    """The tables of an evaluate artifact."""
    pq.write_table(make_predictions(accuracy, num_rows), folder / "predictions.parquet")
    pq.write_table(make_predictions(baseline, num_rows), folder / "baseline.parquet")
    pq.write_table(no_slices(num_rows), folder / "slices.parquet")


def no_slices(num_rows: int) -> pa.Table:
    """The rows, and no slice."""
    return make_predictions(1.0, num_rows).select(["row_id"])
