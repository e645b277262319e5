"""Text generation: a causal language model of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tunesmith.kinds import token_metrics
from tunesmith.kinds.checks import check_columns, check_not_empty, check_text, row_number
from tunesmith.kinds.continuation import cut_prompt, find_room, generate
from tunesmith.kinds.encoder import Encoder
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.protocol import AllRows, Distinct, Encoded, ExamplesSection, LoadedModel, LoadMetric, Origins
from tunesmith.kinds.ragged import FeatureRows
from tunesmith.kinds.token_metrics import Predicted
from tunesmith.kinds.tokens import TokenRows, cut_by_length, pad, take_rows, tokenize
from tunesmith.modeling.placing import compute_in_parts
from tunesmith.section import NOT_IN_KEY

if TYPE_CHECKING:
    import torch

AUTO_CLASS = "AutoModelForCausalLM"
PEFT_TASK_TYPE = "CAUSAL_LM"
PRIMARY_METRIC = "perplexity"
METRICS, METRIC_RANGES = token_metrics.METRICS, token_metrics.RANGES
METRIC_MODULES = tuple(METRICS)
HEADLINE_METRICS = ("perplexity", "token_accuracy")
CUTS_TEXTS = False
HAS_TEMPERATURE = False
JOINS_ROWS = True
NO_LIMIT = Limit(max_length=None)
IGNORED = -100
"""The label of a position that is not learned: PyTorch's `ignore_index`, by the field's convention."""
MIN_BLOCK_TOKENS = 2
"""A block of one token has nothing to predict."""


class TextGeneration(ExamplesSection):
    """Which column holds the text."""

    kind: Literal["text-generation"]
    """The kind of task."""
    text: str
    """The column with the text."""
    max_new_tokens: Annotated[int, Field(ge=1), NOT_IN_KEY] = 64
    """How many tokens `tunesmith predict` generates at most; training does not depend on it."""

    def check_room(self, max_length: int | None) -> None:
        """Refuse to generate so much that a prompt has no room."""
        find_room(self.max_new_tokens, max_length)


def input_columns(examples: TextGeneration) -> tuple[str, ...]:
    """The columns that the model reads."""
    return (examples.text,)


def required_columns(examples: TextGeneration) -> tuple[str, ...]:
    """The columns without which there is no training."""
    return (examples.text,)


def check_rows(table: pa.Table, examples: TextGeneration, origins: Origins) -> None:
    """Refuse rows that cannot be trained on.

    Raises:
        DataError: A missing column, a missing value, or a text that is none.
    """
    check_columns(table, required_columns(examples), origins)
    check_text(table, examples.text, origins)


def check_whole(rows: AllRows, examples: TextGeneration) -> None:
    """Refuse data without rows.

    Raises:
        DataError: There are none.
    """
    check_not_empty(rows.num_rows)


def find_labels(distinct: Distinct, examples: TextGeneration) -> tuple[str, ...]:
    """There are none: every token is predicted."""
    return ()


def encode(table: pa.Table, encoder: Encoder, examples: TextGeneration, labels: Sequence[str], limit: Limit) -> Encoded:
    """Join all texts, each with the end-of-text token behind it, and divide them in blocks of `max_length` tokens.

    Returns:
        Columns row_id, which says where the block begins, as the row and the number of the token in it, and input_ids;
        the last block may be shorter. No text is cut short, but a single token that is left over is not an example.
    """
    assert limit.max_length is not None
    rows = tokenize(encoder, table[examples.text], None, NO_LIMIT)
    ids, ends = _end_each(rows, encoder.eos_token_id)
    num_tokens = len(ids)
    if num_tokens % limit.max_length < MIN_BLOCK_TOKENS:
        ids = ids[: num_tokens - num_tokens % limit.max_length]
    starts = np.arange(0, len(ids), limit.max_length)
    blocks = pa.ListArray.from_arrays(pa.array([*starts, len(ids)], pa.int32()), ids)
    counts = {
        **rows.counts,
        "num_examples": len(blocks),
        "num_tokens": len(ids),
        "num_tokens_read": num_tokens,
        "num_tokens_lost": num_tokens - len(ids),
    }
    names = _name_blocks(table["row_id"], starts, ends)
    return Encoded(pa.table({"row_id": names, "input_ids": blocks}), counts, [])


def collate(rows: FeatureRows, pad_token_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """Pad to the longest block.

    Returns:
        input_ids, attention_mask and labels, each of shape (num_rows, longest). The labels are the input ids, not
        shifted: the models of transformers shift them; padding is `IGNORED`.
    """
    return {**pad(rows, pad_token_id), "labels": rows.tokens["input_ids"].pad(IGNORED)}


def summarize(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """How well each token is predicted from those before it.

    Args:
        logits: Shape (num_rows, longest, vocab_size).
        batch: What `collate` made.

    Returns:
        Each of shape (num_rows,): nll, the sum over the row's tokens in nats; num_tokens; num_correct.
    """
    import torch
    from torch.nn.functional import cross_entropy

    columns: dict[str, list[torch.Tensor]] = {"losses": [], "num_tokens": [], "num_correct": []}
    # Row by row: in full precision, the logits of a whole batch would take twice their memory.
    for row_logits, labels in zip(logits[:, :-1], batch["labels"][:, 1:], strict=True):
        losses = cross_entropy(row_logits.float(), labels, ignore_index=IGNORED, reduction="none")
        is_token = labels != IGNORED
        columns["losses"].append(losses)
        columns["num_tokens"].append(is_token.sum())
        columns["num_correct"].append(((row_logits.argmax(dim=-1) == labels) & is_token).sum())
    found = {name: torch.stack(values) for name, values in columns.items()}
    return {"nll": found.pop("losses").cpu().double().sum(dim=1), **found}  # not on the device: Apple's have no fp64


def prediction_table(
    summary: Mapping[str, np.ndarray[Any, Any]], features: pa.Table, labels: Sequence[str]
) -> pa.Table:
    """Block by block: row_id, nll, num_tokens, num_correct."""
    return pa.table(
        {
            "row_id": features["row_id"],
            "nll": pa.array(summary["nll"], pa.float64()),
            "num_tokens": pa.array(summary["num_tokens"], pa.int64()),
            "num_correct": pa.array(summary["num_correct"], pa.int64()),
        }
    )


def reorder_labels(predictions: pa.Table, own: Sequence[str], labels: Sequence[str]) -> pa.Table:
    """The table as it is: there are no labels."""
    return predictions


def measure(predictions: pa.Table, labels: Sequence[str]) -> Predicted:
    """What each block was foretold like, ready for metrics in any draw of blocks."""
    return Predicted(*(predictions[name].to_numpy() for name in ("nll", "num_tokens", "num_correct")))


def fit_temperature(predictions: pa.Table, labels: Sequence[str]) -> None:
    """None: nobody acts on the probability of a block."""


def scale(predictions: pa.Table, labels: Sequence[str], temperature: float) -> pa.Table:
    """The same table: there is no temperature of this kind."""
    return predictions


def classify(predictions: pa.Table, labels: Sequence[str]) -> None:
    """There are no classes."""
    return None


def compute_losses(predictions: pa.Table, labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """The mean loss of each block's tokens in nats; shape (num_blocks,)."""
    num_tokens = np.maximum(predictions["num_tokens"].to_numpy(), 1)
    losses: np.ndarray[Any, Any] = predictions["nll"].to_numpy() / num_tokens
    return losses


def compute_metrics(predictions: pa.Table, labels: Sequence[str], metric: LoadMetric) -> dict[str, float]:
    """Perplexity and token accuracy over all tokens, which weigh the same whatever their block, and that of blocks."""
    nll, num_tokens, num_correct = (predictions[name].to_pylist() for name in ("nll", "num_tokens", "num_correct"))
    return {
        "perplexity": metric("perplexity").compute(nll=nll, num_tokens=num_tokens)["perplexity"],
        "token_accuracy": metric("token_accuracy").compute(num_correct=num_correct, num_tokens=num_tokens)[
            "token_accuracy"
        ],
        "sequence_accuracy": metric("sequence_accuracy").compute(num_correct=num_correct, num_tokens=num_tokens)[
            "sequence_accuracy"
        ],
    }


def baseline_predictions(train_features: pa.Table, predictions: pa.Table, labels: Sequence[str]) -> None:
    """There is no simple rule: the baseline is the untouched base model."""
    return None


def baseline_name(train_features: pa.Table, labels: Sequence[str]) -> str:
    """The baseline, as a person would call it."""
    return "untouched base model"


def predict(
    loaded: LoadedModel,
    rows: pa.Table,
    examples: TextGeneration,
    labels: Sequence[str],
    limit: Limit,
    batch_size: int,
) -> pa.Table:
    """Continue each text with the most likely tokens, up to `max_new_tokens` or the end of the text.

    Args:
        loaded: The model.
        rows: The texts to continue. Of one too long for the model, its end is read.
        examples: Which column holds the text, and how much to generate.
        labels: None; every kind is called alike.
        limit: The length of a block in training; a prompt may be as long as the model takes.
        batch_size: Texts that are continued together.

    Returns:
        The column prediction, in the order of the rows: the new text alone.

    Raises:
        DataError: The text column is missing, or is not text.
        ModelError: `max_new_tokens` leaves no room for a prompt.
    """
    check_columns(rows, input_columns(examples), row_number)
    check_text(rows, examples.text, row_number)
    prompts = tokenize(loaded.encoder, rows[examples.text], None, NO_LIMIT)
    room = find_room(examples.max_new_tokens, getattr(loaded.model.config, "max_position_embeddings", None))
    texts = [""] * rows.num_rows

    def compute(numbers: np.ndarray[Any, Any]) -> None:
        ids = take_rows(prompts, numbers).tokens["input_ids"].split()
        cut = [cut_prompt(prompt, loaded.encoder, room) for prompt in ids]
        for number, text in zip(numbers, generate(loaded, cut, examples.max_new_tokens), strict=True):
            texts[number] = text

    for numbers in cut_by_length(prompts, batch_size):
        compute_in_parts(loaded.model, numbers, compute)
    return pa.table({"prediction": pa.array(texts, pa.string())})


def _end_each(rows: TokenRows, eos_token_id: int | None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids of all rows, each with the end-of-text token behind it unless the tokenizer has put it there.

    Returns:
        The ids, and where each row ends in them.
    """
    ends = rows.offsets[1:].astype(np.int64)
    if eos_token_id is None or not len(rows.input_ids):
        needs_end = np.full(len(ends), eos_token_id is not None)
    else:
        needs_end = (rows.lengths == 0) | (rows.input_ids[np.maximum(ends - 1, 0)] != eos_token_id)
    added = ends[needs_end]
    ids = rows.input_ids if eos_token_id is None else np.insert(rows.input_ids, added, eos_token_id)
    return ids, ends + np.cumsum(needs_end)


def _name_blocks(row_ids: pa.ChunkedArray, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> pa.Array:
    """The row that each block begins in, and the number of the token in it."""
    owners = np.searchsorted(ends, starts, side="right")
    offsets = starts - np.concatenate([[0], ends])[owners]
    names = row_ids.take(pa.array(owners)).to_pylist()
    return pa.array([f"{name}+{offset}" for name, offset in zip(names, offsets, strict=True)], pa.string())
