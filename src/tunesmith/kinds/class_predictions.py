"""The table of a classifier's predictions: each row's label, prediction, its probability, and the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.kinds.class_metrics import softmax
from tunesmith.kinds.protocol import WINDOW


def find_firsts(features: pa.Table) -> np.ndarray[Any, Any]:
    """The number of the first example of each row."""
    if WINDOW not in features.column_names:
        return np.arange(features.num_rows)
    return np.flatnonzero(features[WINDOW].to_numpy() == 0)


def average_windows(logits: np.ndarray[Any, Any], firsts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mean over the examples of each row, shape (num_rows, num_labels)."""
    if len(firsts) == len(logits):
        return logits
    numbers = np.diff([*firsts, len(logits)])
    means: np.ndarray[Any, Any] = np.add.reduceat(logits.astype(np.float64), firsts, axis=0) / numbers[:, None]
    return means.astype(np.float32)


def find_best(logits: np.ndarray[Any, Any], labels: Sequence[str]) -> dict[str, pa.Array]:
    """Columns prediction, the label with the highest logit, of equals the first, and its probability."""
    best = logits.argmax(axis=1)
    probability = softmax(logits)[np.arange(len(best)), best]
    return {"prediction": name_labels(best, labels), "probability": pa.array(probability, pa.float64())}


def build_columns(logits: np.ndarray[Any, Any], labels: Sequence[str]) -> dict[str, pa.Array]:
    """What follows from logits of shape (num_rows, num_labels): columns prediction, probability, logits."""
    return {**find_best(logits, labels), "logits": as_lists(logits)}


def replace_logits(predictions: pa.Table, logits: np.ndarray[Any, Any], labels: Sequence[str]) -> pa.Table:
    """The table with other logits, and what follows from them."""
    for name, values in build_columns(logits, labels).items():
        predictions = predictions.set_column(predictions.column_names.index(name), name, values)
    return predictions


def as_lists(logits: np.ndarray[Any, Any]) -> pa.Array:
    """Logits of shape (num_rows, num_labels) as a column of lists."""
    return pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32()))


def read_logits(predictions: pa.Table, labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """The logits, shape (num_rows, num_labels)."""
    flat: np.ndarray[Any, Any] = pc.list_flatten(predictions["logits"]).to_numpy()
    return flat.reshape(predictions.num_rows, len(labels))


def name_labels(ids: np.ndarray[Any, Any], labels: Sequence[str]) -> pa.Array:
    """The name of each label id."""
    return pa.array([labels[number] for number in ids], pa.string())
