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
from tunesmith.kinds import calibration, class_metrics
from tunesmith.kinds.checks import check_columns, check_no_nulls, check_not_empty, check_text, count_rows, row_number
from tunesmith.kinds.class_metrics import Classified, compute_by_modules, softmax
from tunesmith.kinds.class_predictions import (
    as_lists,
    average_windows,
    build_columns,
    find_best,
    find_firsts,
    name_labels,
    read_logits,
    replace_logits,
)
from tunesmith.kinds.encoder import Encoder
from tunesmith.kinds.labels import as_text, check_members, find_ids, name_some
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.protocol import (
    WINDOW,
    AllRows,
    Distinct,
    Encoded,
    ExamplesSection,
    LoadedModel,
    LoadMetric,
    Origins,
)
from tunesmith.kinds.ragged import FeatureRows
from tunesmith.kinds.tokens import TokenRows, cut_by_length, fill_empty, pad, take_rows, tokenize
from tunesmith.modeling.placing import compute_in_parts

if TYPE_CHECKING:
    import torch

AUTO_CLASS = "AutoModelForSequenceClassification"
PEFT_TASK_TYPE = "SEQ_CLS"
PRIMARY_METRIC = "accuracy"
METRICS, METRIC_RANGES = class_metrics.METRICS, class_metrics.RANGES
METRIC_MODULES = class_metrics.MODULES
HEADLINE_METRICS = ("accuracy", "f1_macro", "matthews_correlation", "roc_auc", "log_loss", "expected_calibration_error")
CUTS_TEXTS = True
HAS_TEMPERATURE = True
JOINS_ROWS = False


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
    """Refuse rows that cannot be trained on, each for itself.

    Raises:
        DataError: A missing column, a missing value, a text that is none, a label that is none or outside the set.
    """
    check_columns(table, required_columns(examples), origins)
    for column in input_columns(examples):
        check_text(table, column, origins)
    check_no_nulls(table, examples.label, origins)
    found = as_text(table[examples.label], examples.label, origins)
    if examples.labels is not None:
        check_members(found, examples.labels, examples.label, origins)


def check_whole(rows: AllRows, examples: TextClassification) -> None:
    """Refuse rows of which nothing can be learned.

    Raises:
        DataError: There are none, or all are of one class.
    """
    check_not_empty(rows.num_rows)
    names: set[str] = set()
    for table in rows.tables([examples.label]):
        names |= {*pc.unique(as_text(table[examples.label], examples.label, row_number)).to_pylist()}
        if len(names) > 1:
            return
    raise DataError(
        f"column {examples.label!r} has the value {names.pop()!r} in all of {count_rows(rows.num_rows)}; with a single "
        "class there is nothing to learn. Add rows of another class."
    )


def find_labels(distinct: Distinct, examples: TextClassification) -> tuple[str, ...]:
    """The label set in id order: the recipe's, or that of the train split, numbers by value and text by letter."""
    if examples.labels is not None:
        return examples.labels
    labels = distinct(examples.label)
    found = pc.unique(as_text(labels, examples.label, row_number)).to_pylist()
    if len(found) < 2:
        raise DataError(
            f"the train split has no two labels in column {examples.label!r} (only {name_some(found) or 'none'}); "
            "add rows, or give the other splits smaller fractions in the recipe's split section."
        )
    is_number = pa.types.is_integer(labels.type) or pa.types.is_floating(labels.type)
    return tuple(sorted(found, key=int if is_number else str))


def encode(
    table: pa.Table, encoder: Encoder, examples: TextClassification, labels: Sequence[str], limit: Limit
) -> Encoded:
    """Tokenize each row, and cut it or leave it out as the limit says.

    Returns:
        Columns row_id, window where a row may make several examples, input_ids, token_type_ids where the model has
        them, and labels, which each example of a row has.

    Raises:
        DataError: A label is not in the set.
        ModelError: The limit leaves no room for a text.
    """
    ids = find_ids(table, examples.label, labels)
    rows = _tokenize(table, encoder, examples, limit)
    names = table["row_id"].take(pa.array(rows.texts))
    windows = {WINDOW: pa.array(rows.windows, pa.int32())} if limit.on_overflow == "window" else {}
    columns = {"row_id": names, **windows, **rows.columns(), "labels": pa.array(ids[rows.texts], pa.int64())}
    too_long = [(table["row_id"][row].as_py(), number) for row, number in rows.too_long.items()]
    return Encoded(pa.table(columns), rows.counts, too_long)


def collate(rows: FeatureRows, pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """Pad to the longest row.

    Returns:
        input_ids, attention_mask and, where the rows have them, token_type_ids, each of shape (num_rows, longest);
        labels of shape (num_rows,).
    """
    batch = pad(rows, pad_token_id)
    if "labels" in rows.numbers:
        batch["labels"] = rows.numbers["labels"].astype(np.int64)
    return batch


def summarize(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep the logits, shape (num_rows, num_labels), in full precision."""
    return {"logits": logits.float()}


def prediction_table(
    summary: Mapping[str, np.ndarray[Any, Any]], features: pa.Table, labels: Sequence[str]
) -> pa.Table:
    """Row by row: row_id, label, prediction, its probability, and the logits, the mean of those of its windows."""
    firsts = find_firsts(features)
    logits = average_windows(summary["logits"], firsts)
    return pa.table(
        {
            "row_id": features["row_id"].take(pa.array(firsts)),
            "label": name_labels(features["labels"].to_numpy()[firsts], labels),
            **build_columns(logits, labels),
        }
    )


def reorder_labels(predictions: pa.Table, own: Sequence[str], labels: Sequence[str]) -> pa.Table:
    """The table with each row's logits in another order of the labels."""
    if list(own) == list(labels):
        return predictions
    logits = read_logits(predictions, own)[:, [list(own).index(label) for label in labels]]
    return predictions.set_column(predictions.column_names.index("logits"), "logits", as_lists(logits))


def measure(predictions: pa.Table, labels: Sequence[str]) -> Classified:
    """The classes and their probabilities, ready for metrics in any draw of examples."""
    names = pa.array(labels, pa.string())
    return Classified(
        pc.index_in(predictions["label"], value_set=names).to_numpy(),
        pc.index_in(predictions["prediction"], value_set=names).to_numpy(),
        softmax(read_logits(predictions, labels)),
    )


def fit_temperature(predictions: pa.Table, labels: Sequence[str]) -> float:
    """The temperature with the least log loss on some predictions."""
    return calibration.fit_temperature(read_logits(predictions, labels), measure(predictions, labels).labels)


def scale(predictions: pa.Table, labels: Sequence[str], temperature: float) -> pa.Table:
    """The table with its logits divided by a temperature: other probabilities of the same labels."""
    return replace_logits(predictions, read_logits(predictions, labels) / np.float32(temperature), labels)


def classify(predictions: pa.Table, labels: Sequence[str]) -> Classified:
    """What `measure` gives: the metrics are those of the classes."""
    return measure(predictions, labels)


def compute_losses(predictions: pa.Table, labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """The cross-entropy of each row in nats; shape (num_rows,)."""
    classified = measure(predictions, labels)
    true = classified.probabilities[np.arange(classified.num_examples), classified.labels]
    losses: np.ndarray[Any, Any] = -np.log(np.maximum(true, np.finfo(np.float64).tiny))
    return losses


def compute_metrics(predictions: pa.Table, labels: Sequence[str], metric: LoadMetric) -> dict[str, float]:
    """Every metric over all rows."""
    return compute_by_modules(measure(predictions, labels), metric)


def baseline_predictions(train_features: pa.Table, predictions: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Every row predicted as often each label as the train split has it: the most frequent one, of equals the first."""
    counts = _count_labels(train_features, labels)
    # One more of each: a label that only the other splits have is unlikely, and not impossible.
    logits = np.log((counts + 1) / (counts.sum() + len(counts)))[None].repeat(predictions.num_rows, axis=0)
    return pa.table(
        {
            "row_id": predictions["row_id"],
            "label": predictions["label"],
            **build_columns(logits, labels),
        }
    )


def baseline_name(train_features: pa.Table, labels: Sequence[str]) -> str:
    """The baseline, as a person would call it."""
    return f"majority class ({labels[int(_count_labels(train_features, labels).argmax())]})"


def predict(
    loaded: LoadedModel,
    rows: pa.Table,
    examples: TextClassification,
    labels: Sequence[str],
    limit: Limit,
    batch_size: int,
) -> pa.Table:
    """The label and its probability for each row.

    Args:
        loaded: The model.
        rows: What to predict for; needs the text columns only.
        examples: Which columns hold the text.
        labels: The label set in id order.
        limit: What became of long rows in training; of several windows, the mean of the logits counts.
        batch_size: Examples that go through the model together.

    Returns:
        Columns prediction and probability, in the order of the rows; null where training would have left a row out.

    Raises:
        DataError: A text column is missing, or is not text.
    """
    import torch

    check_columns(rows, input_columns(examples), row_number)
    for column in input_columns(examples):
        check_text(rows, column, row_number)
    tokens = _tokenize(rows, loaded.encoder, examples, limit)
    logits = np.zeros((len(tokens.texts), len(labels)), np.float32)

    def compute(numbers: np.ndarray[Any, Any]) -> None:
        batch = collate(take_rows(tokens, numbers), loaded.model.config.pad_token_id)
        tensors = {name: torch.from_numpy(values).to(loaded.model.device) for name, values in batch.items()}
        with torch.inference_mode():
            logits[numbers] = loaded.model(**tensors).logits.float().cpu().numpy()

    for numbers in cut_by_length(tokens, batch_size):
        compute_in_parts(loaded.model, numbers, compute)
    firsts = np.flatnonzero(tokens.windows == 0)
    found = pa.table(find_best(average_windows(logits, firsts) / np.float32(loaded.temperature), labels))
    places = pc.index_in(pa.array(np.arange(rows.num_rows)), value_set=pa.array(tokens.texts[firsts]))
    return found.take(places)


def _tokenize(table: pa.Table, encoder: Encoder, examples: TextClassification, limit: Limit) -> TokenRows:
    pairs = table[examples.text_pair] if examples.text_pair else None
    return fill_empty(tokenize(encoder, table[examples.text], pairs, limit), encoder.start_token_id)


def _count_labels(train_features: pa.Table, labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """How many rows have each label."""
    ids = train_features["labels"].to_numpy()[find_firsts(train_features)]
    return np.bincount(ids, minlength=len(labels))
