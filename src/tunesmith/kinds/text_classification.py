"""Text classification: one label for one text or a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from tunesmith.errors import DataError
from tunesmith.kinds.checks import check_columns, check_no_nulls, check_not_empty, check_text, count_rows, describe_type
from tunesmith.kinds.protocol import AnyModel, ExamplesSection, LoadMetric, Origins
from tunesmith.kinds.tokens import cut_by_length, pad, take_rows, tokenize

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

AUTO_CLASS = "AutoModelForSequenceClassification"
PEFT_TASK_TYPE = "SEQ_CLS"
PRIMARY_METRIC = "accuracy"
METRICS: Mapping[str, bool] = {
    "accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "matthews_correlation": True,
}
MAX_WHOLE = 2.0**53
"""From here on, a float cannot tell neighbouring whole numbers apart."""
MAX_NAMED = 20
"""Labels that an error names before it only counts them."""


class TextClassification(ExamplesSection):
    """Which columns hold the text and its label."""

    kind: Literal["text-classification"]
    """The kind of task."""
    text: str
    """The column with the text."""
    text_pair: str | None = None
    """The column with the second text, for pairs such as a question and an answer."""
    label: str
    """The column with the label."""
    labels: tuple[str, ...] | None = None
    """Every label, in the order of the model's outputs; by default those of the train split, sorted."""

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        twice = [label for label, count in Counter(labels).items() if count > 1]
        if twice:
            raise ValueError(f"names {twice[0]!r} twice")
        if len(labels) < 2:
            raise ValueError("needs at least two labels; a single class leaves nothing to learn")
        return labels


def input_columns(examples: TextClassification) -> tuple[str, ...]:
    """The columns that the model reads."""
    return (examples.text,) if examples.text_pair is None else (examples.text, examples.text_pair)


def required_columns(examples: TextClassification) -> tuple[str, ...]:
    """The columns without which there is no training."""
    return (*input_columns(examples), examples.label)


def check_rows(table: pa.Table, examples: TextClassification, origins: Origins) -> None:
    """Refuse rows that cannot be trained on.

    Raises:
        DataError: A missing column, a missing value, a text that is none, a label that is none or outside the set,
            or a single class.
    """
    check_columns(table, required_columns(examples), origins)
    check_not_empty(table)
    for column in input_columns(examples):
        check_text(table, column, origins)
    check_no_nulls(table, examples.label, origins)
    found = _as_text(table[examples.label], examples.label, origins)
    if examples.labels is not None:
        _check_members(found, examples.labels, examples.label, origins)
    classes = pc.unique(found).to_pylist()
    if len(classes) < 2:
        raise DataError(
            f"{origins(0)}: column {examples.label!r} has the value {classes[0]!r} in all of "
            f"{count_rows(table.num_rows)}; with a single class there is nothing to learn. Add rows of another class."
        )


def find_labels(train: pa.Table, examples: TextClassification) -> tuple[str, ...]:
    """The label set in id order: the recipe's, or that of the train split, numbers by value and text by letter."""
    if examples.labels is not None:
        return examples.labels
    column = train[examples.label]
    labels = pc.unique(_as_text(column, examples.label, _row_number)).to_pylist()
    if len(labels) < 2:
        raise DataError(
            f"the train split has no two labels in column {examples.label!r} (only {_name_some(labels) or 'none'}); "
            "add rows, or give the other splits smaller fractions in the recipe's split section."
        )
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return tuple(sorted(labels, key=int if is_number else str))


def encode(
    table: pa.Table,
    tokenizer: PreTrainedTokenizerBase,
    examples: TextClassification,
    labels: Sequence[str],
    max_length: int,
) -> tuple[pa.Table, dict[str, int]]:
    """Tokenize each row, longest text cut first.

    Returns:
        Columns row_id, input_ids, token_type_ids where the model has them, labels; and the counts.

    Raises:
        DataError: A label is not in the set.
    """
    texts = table[examples.text]
    rows = tokenize(tokenizer, texts, table[examples.text_pair] if examples.text_pair else None, max_length)
    names = _as_text(table[examples.label], examples.label, _row_number)
    ids = pc.index_in(names, value_set=pa.array(labels, pa.string()))
    if ids.null_count:
        first = pc.index(pc.is_null(ids), True).as_py()
        raise DataError(
            f"row {table['row_id'][first].as_py()}: column {examples.label!r} has the label {names[first].as_py()!r}, "
            f"which no row of the train split has ({_name_some(labels)}). Add examples of it, or list all labels in "
            "examples.labels."
        )
    columns = {"row_id": table["row_id"], **rows.columns(), "labels": ids.cast(pa.int64())}
    return pa.table(columns), {"num_tokens": rows.num_tokens, "num_truncated": rows.num_truncated}


def collate(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """Pad to the longest row.

    Returns:
        input_ids, attention_mask and, where the rows have them, token_type_ids, each of shape (num_rows, longest);
        labels of shape (num_rows,).
    """
    batch = pad(rows, pad_token_id)
    if "labels" in rows[0]:
        batch["labels"] = np.array([row["labels"] for row in rows], np.int64)
    return batch


def summarize(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep the logits, shape (num_rows, num_labels), in full precision."""
    return {"logits": logits.float()}


def prediction_table(
    summary: Mapping[str, np.ndarray[Any, Any]], features: pa.Table, labels: Sequence[str]
) -> pa.Table:
    """Row by row: row_id, label, prediction, its probability, and the logits."""
    logits = summary["logits"]
    return pa.table(
        {
            "row_id": features["row_id"],
            "label": _names(features["labels"].to_numpy(), labels),
            **_predictions(logits, labels),
            "logits": pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32())),
        }
    )


def compute_metrics(predictions: pa.Table, labels: Sequence[str], metric: LoadMetric) -> dict[str, float]:
    """Accuracy, macro precision, recall and F1, and Matthews' correlation, over all rows."""
    values = pa.array(labels, pa.string())
    predicted = pc.index_in(predictions["prediction"], value_set=values).to_pylist()
    references = pc.index_in(predictions["label"], value_set=values).to_pylist()
    return {name: metric(name).compute(predictions=predicted, references=references)[name] for name in METRICS}


def baseline_predictions(train_features: pa.Table, predictions: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Every row predicted as the most frequent label of the train split; of equals, the first in the set."""
    majority = pa.array([_find_majority(train_features, labels)] * predictions.num_rows, pa.string())
    return pa.table({"row_id": predictions["row_id"], "label": predictions["label"], "prediction": majority})


def baseline_name(train_features: pa.Table, labels: Sequence[str]) -> str:
    """The baseline, as a person would call it."""
    return f"majority class ({_find_majority(train_features, labels)})"


def predict(
    model: AnyModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: pa.Table,
    examples: TextClassification,
    labels: Sequence[str],
    *,
    batch_size: int,
    device: torch.device | str,
) -> pa.Table:
    """The label and its probability for each row.

    Args:
        model: A model in eval mode, on `device`.
        tokenizer: Its tokenizer; texts are cut at its `model_max_length`.
        rows: What to predict for; needs the text columns only.
        examples: Which columns hold the text.
        labels: The label set in id order.
        batch_size: Rows that go through the model together.
        device: Where the model is.

    Returns:
        Columns prediction and probability, in the order of the rows.

    Raises:
        DataError: A text column is missing, or is not text.
    """
    import torch

    check_columns(rows, input_columns(examples), _row_number)
    for column in input_columns(examples):
        check_text(rows, column, _row_number)
    pair = rows[examples.text_pair] if examples.text_pair else None
    tokens = tokenize(tokenizer, rows[examples.text], pair, tokenizer.model_max_length)
    logits = np.zeros((rows.num_rows, len(labels)), np.float32)
    for numbers in cut_by_length(tokens, batch_size):
        batch = collate(take_rows(tokens, numbers), model.config.pad_token_id)
        tensors = {name: torch.from_numpy(values).to(device) for name, values in batch.items()}
        with torch.inference_mode():
            logits[numbers] = model(**tensors).logits.float().cpu().numpy()
    return pa.table(_predictions(logits, labels))


def _as_text(column: pa.ChunkedArray, name: str, origins: Origins) -> pa.ChunkedArray:
    """Labels as text: 1 and 1.0 are "1", True is "true"."""
    if pa.types.is_floating(column.type):
        is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), MAX_WHOLE))
        first = pc.index(is_whole, False).as_py()
        if first >= 0:
            raise DataError(
                f"{origins(first)}: column {name!r} has the value {column[first].as_py()!r}; text-classification needs "
                "classes, not decimal numbers. Name the column with the class, or derive one with a function transform."
            )
        column = column.cast(pa.int64())
    is_named = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (is_named or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(
            f"{origins(0)}: column {name!r} holds {describe_type(column.type)}; a label is text, a whole number or "
            "true/false."
        )
    return column.cast(pa.string())


def _check_members(found: pa.ChunkedArray, labels: Sequence[str], column: str, origins: Origins) -> None:
    outside = pc.invert(pc.is_in(found, value_set=pa.array(labels, pa.string())))
    number = pc.sum(outside).as_py()
    if number:
        first = pc.index(outside, True).as_py()
        raise DataError(
            f"{origins(first)}: column {column!r} has the label {found[first].as_py()!r}, which is not in "
            f"examples.labels ({_name_some(labels)}); {count_rows(number)} of {len(found)} have such a label. "
            "Add the label to the set, or correct the rows."
        )


def _name_some(labels: Sequence[str]) -> str:
    named = ", ".join(repr(label) for label in labels[:MAX_NAMED])
    return named if len(labels) <= MAX_NAMED else f"{named} and {len(labels) - MAX_NAMED} more"


def _find_majority(train_features: pa.Table, labels: Sequence[str]) -> str:
    counts = np.bincount(train_features["labels"].to_numpy(), minlength=len(labels))
    return labels[int(counts.argmax())]


def _predictions(logits: np.ndarray[Any, Any], labels: Sequence[str]) -> dict[str, pa.Array]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    best = logits.argmax(axis=1)
    probability = shifted[np.arange(len(best)), best] / shifted.sum(axis=1)
    return {"prediction": _names(best, labels), "probability": pa.array(probability, pa.float64())}


def _names(ids: np.ndarray[Any, Any], labels: Sequence[str]) -> pa.Array:
    return pa.array([labels[number] for number in ids], pa.string())


def _row_number(row: int) -> str:
    return f"row {row + 1}"
