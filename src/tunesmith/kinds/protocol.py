"""What every kind of task answers: know one kind module, know them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from tunesmith.section import Section

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Origins = Callable[[int], str]
"""Row number -> where the row came from, such as `reviews.csv:17`."""

AnyExamples = Any
"""The section that the kind's own module defines; no two kinds take the same."""

AnyModel = Any
"""A model of transformers, or a peft model around one; they share no class that has `config` and `save_pretrained`."""

LoadMetric = Callable[[str], Any]
"""Name -> a loaded `evaluate` module."""


class ExamplesSection(Section):
    """The recipe's section on the examples; each kind has its own fields."""

    kind: str
    """The kind of task."""


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

    def input_columns(self, examples: AnyExamples) -> tuple[str, ...]:
        """The columns that the model reads: what makes two rows the same example."""

    def required_columns(self, examples: AnyExamples) -> tuple[str, ...]:
        """The columns without which there is no training."""

    def check_rows(self, table: pa.Table, examples: AnyExamples, origins: Origins) -> None:
        """Refuse rows that cannot be trained on.

        Raises:
            DataError: What is wrong, where, and what to do.
        """

    def find_labels(self, train: pa.Table, examples: AnyExamples) -> tuple[str, ...]:
        """The label set in id order; empty for a kind without labels."""

    def encode(
        self,
        table: pa.Table,
        tokenizer: PreTrainedTokenizerBase,
        examples: AnyExamples,
        labels: Sequence[str],
        max_length: int,
    ) -> tuple[pa.Table, Mapping[str, int]]:
        """Features, one row an example, and the counts `num_tokens` and `num_truncated`."""

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
        """A batch of arrays of shape (num_rows, longest), or (num_rows,) for what is one number a row."""

    def summarize(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What evaluation keeps of each example; the first axis is the example."""

    def prediction_table(
        self, summary: Mapping[str, np.ndarray[Any, Any]], features: pa.Table, labels: Sequence[str]
    ) -> pa.Table:
        """One row an example, in the order of the features."""

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
        model: AnyModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: pa.Table,
        examples: AnyExamples,
        labels: Sequence[str],
        *,
        batch_size: int,
        device: torch.device | str,
    ) -> pa.Table:
        """The columns to add to `rows`, in their order."""
