"""The batched forward pass: what a kind keeps of the model's logits, for every example and in the examples' order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import TunesmithError
from tunesmith.evaluation.progress import track
from tunesmith.features.batching import Features, make_collator
from tunesmith.kinds.protocol import AnyModel, Kind
from tunesmith.modeling.placing import compute_in_parts, placed

MAX_BATCH_TOKENS = 8192
"""Padding included. A causal model gives a logit per token and word of its vocabulary: 1.6 GB for 49,152 words."""

Summary = Mapping[str, np.ndarray[Any, Any]]
"""What a kind keeps of each example, by name; every array has one entry an example."""


def plan_forward(
    lengths: np.ndarray[Any, Any], batch_size: int, max_tokens: int = MAX_BATCH_TOKENS
) -> list[np.ndarray[Any, Any]]:
    """Cut examples into batches of like length, the longest first, so that memory is short at once or never.

    Args:
        lengths: Tokens of each example, shape (num_examples,).
        batch_size: Most examples in a batch; fewer where they are long.
        max_tokens: Most tokens in a batch of several examples, padding included.

    Returns:
        The row numbers of each batch; together a permutation of all rows.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, min(batch_size, max_tokens // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


def score(
    model: AnyModel, features: pa.Table, kind: Kind, pad_token_id: int, *, batch_size: int, title: str
) -> Summary:
    """Run a model over features, without gradients and in the precision of its weights.

    Args:
        model: The model; it is moved to the accelerator, and back to the CPU, in evaluation mode.
        features: At least one example.
        kind: Says how examples are collated, and what is kept of their logits.
        pad_token_id: What shorter examples are filled up with; masked.
        batch_size: Most examples in a forward pass.
        title: What the progress bar says.

    Returns:
        What the kind keeps, in the order of `features`.

    Raises:
        TunesmithError: A number is NaN or infinite: the model has diverged.
    """
    import torch

    collate = make_collator(kind, pad_token_id)
    examples = Features(features)
    batches = plan_forward(examples.lengths, batch_size)
    model.eval()

    def summarize(rows: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        batch = {name: tensor.to(model.device) for name, tensor in collate(examples.take(rows)).items()}
        with torch.inference_mode():
            # The model does not see the labels: it would compute a loss that nobody reads.
            logits = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
            return {name: value.cpu().numpy() for name, value in kind.summarize(logits, batch).items()}

    with placed(model):
        parts = [part for rows in track(batches, title) for part in compute_in_parts(model, rows, summarize)]
    summary = restore_order(parts, np.concatenate(batches))
    _check_finite(summary, features["row_id"])
    return summary


def restore_order(parts: list[dict[str, np.ndarray[Any, Any]]], order: np.ndarray[Any, Any]) -> Summary:
    """What was kept of each batch, put together in the examples' own order, of which `order` has the row numbers."""
    back = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def _check_finite(summary: Summary, row_ids: pa.ChunkedArray) -> None:
    for name, values in summary.items():
        is_finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not is_finite.all():
            first, number = row_ids[int(np.argmin(is_finite))].as_py(), int((~is_finite).sum())
            raise TunesmithError(
                f"{number} of {len(values)} examples have {name} that are not finite (first: row {first}): the model "
                "has diverged. Lower train.learning_rate, or set train.precision to fp32."
            )
