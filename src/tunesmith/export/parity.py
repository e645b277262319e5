"""The proof that an exported model gives the candidate's logits when plain transformers reads it in a clean process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import TunesmithError
from tunesmith.features.batching import Features
from tunesmith.kinds.protocol import Kind

if TYPE_CHECKING:
    import torch

PLAIN_READER = Path(__file__).with_name("plain_reader.py")
MAX_EXAMPLES = 64
BATCH_EXAMPLES = 4
MAX_LOGITS = 2**26
"""256 MB. A causal model gives a logit per token and word of its vocabulary: fewer examples are compared then."""
TIMEOUT_SECONDS = 1800

Batch = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ParityReport:
    """How far two models are apart.

    Attributes:
        max_logit_difference: The largest distance between two logits of the same name; NaN where one is NaN.
        largest_logit: The largest size of a logit: rounding grows with it.
        num_examples: Test examples compared.
        num_logits: Numbers compared.
    """

    max_logit_difference: float
    largest_logit: float
    num_examples: int
    num_logits: int


def measure_parity(
    expected: Sequence[np.ndarray[Any, Any]], model_folder: Path, auto_class: str, batches: Sequence[Batch]
) -> ParityReport:
    """Compare a candidate's logits with those of an exported model in a clean process, on the CPU.

    Args:
        expected: What `compute_logits` gave for the candidate as it was trained, not merged.
        model_folder: The exported model.
        auto_class: The name of the Auto class that loads it.
        batches: The inputs; those beyond `expected` are not looked at.

    Raises:
        TunesmithError: Plain transformers cannot load the exported model, or its logits have another shape.
    """
    found = read_logits_plainly(model_folder, auto_class, batches[: len(expected)])
    for ours, theirs in zip(expected, found, strict=True):
        if ours.shape != theirs.shape:
            raise TunesmithError(f"the exported model gives logits of shape {theirs.shape}, the candidate {ours.shape}")
    return ParityReport(
        max_logit_difference=float(np.max([np.abs(a - b).max() for a, b in zip(expected, found, strict=True)])),
        largest_logit=float(max(np.abs(logits).max() for logits in expected)),
        num_examples=sum(len(logits) for logits in expected),
        num_logits=sum(logits.size for logits in expected),
    )


def make_batches(test: pa.Table, kind: Kind, pad_token_id: int) -> list[Batch]:
    """The inputs of the first test examples, a few at a time, without their labels."""
    features = Features(test.slice(0, MAX_EXAMPLES))
    rows = np.arange(len(features))
    batches: list[Batch] = []
    for start in range(0, len(rows), BATCH_EXAMPLES):
        batch = kind.collate(features.take(rows[start : start + BATCH_EXAMPLES]), pad_token_id)
        batches.append({name: values for name, values in batch.items() if name != "labels"})
    return batches


def compute_logits(model: torch.nn.Module, batches: Sequence[Batch]) -> list[np.ndarray[Any, Any]]:
    """The logits of one batch after another, until there are `MAX_LOGITS`."""
    import torch

    model.to("cpu").eval()
    found: list[np.ndarray[Any, Any]] = []
    for batch in batches:
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits
        found.append(logits.float().numpy())
        if sum(part.size for part in found) >= MAX_LOGITS:
            break
    return found


def read_logits_plainly(model_folder: Path, auto_class: str, batches: Sequence[Batch]) -> list[np.ndarray[Any, Any]]:
    """The logits of an exported model in a clean process that knows nothing of Tunesmith.

    Raises:
        TunesmithError: The process failed; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-parity-") as name:
        folder = Path(name)
        for number, batch in enumerate(batches):
            np.savez(folder / f"batch-{number:03}.npz", allow_pickle=False, **dict(batch))
        # -I: no PYTHONPATH, no user site, not the working directory.
        command = [sys.executable, "-I", str(PLAIN_READER), str(model_folder), auto_class, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
        if done.returncode != 0:
            last_words = "\n".join(done.stderr.strip().splitlines()[-3:]) or "it said nothing"
            raise TunesmithError(
                f"plain transformers cannot use the exported model (exit {done.returncode}); nothing is published:\n"
                f"{last_words}"
            )
        return [np.load(path, allow_pickle=False) for path in sorted(folder.glob("logits-*.npy"))]
