"""What it matters which base model an adapter is merged into, when it was trained on a quantized one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tunesmith.evaluation.progress import track
from tunesmith.evaluation.scoring import plan_forward
from tunesmith.features.batching import Features, make_collator
from tunesmith.kinds.protocol import AnyModel, Kind
from tunesmith.modeling.placing import compute_in_parts, placed

BATCH_EXAMPLES = 64
"""Examples in a forward pass; fewer where they are long."""

MERGE_FILE = "merge.json"


class MergeReport(BaseModel):
    """Two ways to merge an adapter that was trained on a quantized base model, by their mean loss on the test split."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    loss: float
    """Of the exported model: merged into the values that the quantized weights stood for in training."""
    original_base_loss: float
    """Of the adapter merged into the base model as it came, which is what loading the two and merging them gives."""
    num_examples: int
    """Test examples that both are over."""

    def save(self, folder: Path) -> None:
        """Write merge.json into a folder."""
        (folder / MERGE_FILE).write_text(self.model_dump_json(indent=1), encoding="utf-8")


def compute_loss(model: AnyModel, test: pa.Table, kind: Kind, pad_token_id: int) -> float:
    """The mean of a model's own loss over all targets of a split.

    Args:
        model: It is moved to the accelerator, and back to the CPU, in evaluation mode.
        test: At least one example, with labels.
        kind: Says how examples are collated.
        pad_token_id: What shorter examples are filled up with; masked.
    """
    import torch

    from tunesmith.training.loss import IGNORED, find_targets

    collate = make_collator(kind, pad_token_id)
    examples = Features(test)
    model.eval()

    def add_losses(rows: np.ndarray[Any, Any]) -> tuple[float, int]:
        batch = collate(examples.take(rows))
        num_targets = int(find_targets(batch["labels"]).ne(IGNORED).sum())
        with torch.inference_mode():
            loss = float(model(**{name: values.to(model.device) for name, values in batch.items()}).loss)
        return (loss * num_targets, num_targets) if num_targets else (0.0, 0)  # the mean over none is no number

    batches = plan_forward(examples.lengths, BATCH_EXAMPLES)
    with placed(model):
        parts = [
            part for rows in track(batches, "comparing merges") for part in compute_in_parts(model, rows, add_losses)
        ]
    return sum(loss for loss, _ in parts) / sum(number for _, number in parts)
