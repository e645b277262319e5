"""What every kind of task answers: know one kind module, know them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from tunesmith.kinds.draws import Measured
from tunesmith.kinds.encoder import Encoder
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.ragged import FeatureRows
from tunesmith.section import Section

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from tunesmith.kinds.class_metrics import Classified

Origins = Callable[[int], str]
"""Row number -> where the row came from, such as `reviews.csv:17`."""

AnyExamples = Any
"""The section that the kind's own module defines; no two kinds take the same."""

AnyModel = Any
"""A model of transformers, or a peft model around one; they share no class that has `config` and `save_pretrained`."""

WINDOW = "window"
"""The column of features that numbers the examples of one row."""

LoadMetric = Callable[[str], Any]
"""Name -> a loaded `evaluate` module."""


class ExamplesSection(Section):
    """The recipe's section on the examples; each kind has its own fields."""

    kind: str
    """The kind of task."""

    def check_room(self, max_length: int | None) -> None:
        """Refuse what is asked of a model that takes so many tokens, or any number, and cannot be done with it.

        Raises:
            ModelError: Which field asks for too much, and what it may be.
        """


class AllRows(Protocol):
    """Rows on the disk, of which a column can be read."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all of them."""

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The same, some rows at a time."""


Distinct = Callable[[str], pa.ChunkedArray]
"""A column -> the values that it has in the train split, in no order, and some perhaps more than once."""


@dataclass(frozen=True)
class Encoded:
    """Rows as features.

    Attributes:
        features: A row an example: row_id, input_ids and what else the kind needs; where a row of the data makes
            several examples, they stand together, numbered from 0 in the column `WINDOW`.
        counts: num_rows, num_examples, num_tokens and so on, as `tokenize` names them; they add up over chunks.
        too_long: The row ids of the first rows that are longer than the limit, and how many tokens they have.
    """

    features: pa.Table
    counts: Mapping[str, int]
    too_long: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to predict.

    Attributes:
        model: In eval mode, on its device.
        tokenizer: Its tokenizer, to write text.
        encoder: The same, to read text.
        temperature: What logits are divided by before they become probabilities.
    """

    model: AnyModel
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    temperature: float = 1.0


class Kind(Protocol):
    """A module in `tunesmith.kinds`. `examples` is the section that the same module defines."""

    AUTO_CLASS: str
    """The Auto class of transformers that loads a model with the right head."""
    PEFT_TASK_TYPE: str
    """The name of peft's TaskType."""
    PRIMARY_METRIC: str
    """What a candidate is judged by unless the recipe says otherwise."""
    METRICS: Mapping[str, bool]
    """Name of a metric -> whether greater is better."""
    METRIC_RANGES: Mapping[str, tuple[float, float]]
    """Name of a metric -> the least and the greatest value that it can have."""
    METRIC_MODULES: tuple[str, ...]
    """The `evaluate` modules that compute them."""
    HEADLINE_METRICS: tuple[str, ...]
    """Those that a person sees at once."""
    CUTS_TEXTS: bool
    """Whether a text that is longer than an example may be has to be cut: what `tokenize.on_overflow` is about."""
    HAS_TEMPERATURE: bool
    """Whether its predictions have probabilities that a temperature can calibrate."""
    JOINS_ROWS: bool
    """Whether an example holds several rows; its `row_id` then is `<row>+<token>`, where it begins."""

    def input_columns(self, examples: AnyExamples) -> tuple[str, ...]:
        """The columns that the model reads: what makes two rows the same example."""

    def required_columns(self, examples: AnyExamples) -> tuple[str, ...]:
        """The columns without which there is no training."""

    def check_rows(self, table: pa.Table, examples: AnyExamples, origins: Origins) -> None:
        """Refuse rows that cannot be trained on; each for itself, so some of all rows will do, or none.

        Raises:
            DataError: What is wrong, where, and what to do.
        """

    def check_whole(self, rows: AllRows, examples: AnyExamples) -> None:
        """Refuse rows that are each good, but of which nothing can be learned together.

        Raises:
            DataError: There are none, or all are of one class.
        """

    def find_labels(self, distinct: Distinct, examples: AnyExamples) -> tuple[str, ...]:
        """The label set in id order, of the rows that train; empty for a kind without labels."""

    def encode(
        self, table: pa.Table, encoder: Encoder, examples: AnyExamples, labels: Sequence[str], limit: Limit
    ) -> Encoded:
        """Features of some rows, which have a `row_id`; they do not depend on any other rows."""

    def collate(self, rows: FeatureRows, pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
        """A batch of arrays of shape (num_rows, longest), or (num_rows,) for what is one number a row."""

    def summarize(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What evaluation keeps of each example; the first axis is the example."""

    def prediction_table(
        self, summary: Mapping[str, np.ndarray[Any, Any]], features: pa.Table, labels: Sequence[str]
    ) -> pa.Table:
        """One row for each row of the data that the features are of, in their order."""

    def reorder_labels(self, predictions: pa.Table, own: Sequence[str], labels: Sequence[str]) -> pa.Table:
        """The table of a model whose label set `own` is `labels` in another order, as if that were its order, too."""

    def measure(self, predictions: pa.Table, labels: Sequence[str]) -> Measured:
        """A prediction table, ready for metrics in any draw of its rows."""

    def fit_temperature(self, predictions: pa.Table, labels: Sequence[str]) -> float | None:
        """The temperature that calibrates a model, of what it predicts for rows that neither train nor test.

        None for a kind whose predictions have no probability that somebody acts on.
        """

    def scale(self, predictions: pa.Table, labels: Sequence[str], temperature: float) -> pa.Table:
        """A prediction table with its logits divided by a temperature; for a kind that has one."""

    def classify(self, predictions: pa.Table, labels: Sequence[str]) -> Classified | None:
        """The true and the predicted class of each row of a prediction table; None for a kind without labels."""

    def compute_losses(self, predictions: pa.Table, labels: Sequence[str]) -> np.ndarray[Any, Any]:
        """The loss of each row of a prediction table in nats, of many tokens their mean; shape (num_rows,)."""

    def compute_metrics(self, predictions: pa.Table, labels: Sequence[str], metric: LoadMetric) -> dict[str, float]:
        """Every metric of METRICS over a prediction table."""

    def baseline_predictions(
        self, train_features: pa.Table, predictions: pa.Table, labels: Sequence[str]
    ) -> pa.Table | None:
        """What the simplest rule would predict; None where the baseline is the untouched base model."""

    def baseline_name(self, train_features: pa.Table, labels: Sequence[str]) -> str:
        """The baseline, as a person would call it."""

    def predict(
        self,
        loaded: LoadedModel,
        rows: pa.Table,
        examples: AnyExamples,
        labels: Sequence[str],
        limit: Limit,
        batch_size: int,
    ) -> pa.Table:
        """The columns to add to `rows`, in their order; null for a row that training left out as too long."""
