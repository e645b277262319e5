"""The proof that an exported model answers as the judged one, where nothing of Tunesmith is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import TunesmithError
from tunesmith.evaluation.intervals import CONFIDENCE, Bootstrap, Interval, choose_num_draws, compute_values
from tunesmith.evaluation.progress import track
from tunesmith.evaluation.scoring import plan_forward, restore_order
from tunesmith.export.clean_process import Array, Batch, CleanProcess, PlainModel, open_plainly
from tunesmith.export.formats import FormatReport, measure_size
from tunesmith.features.batching import Features
from tunesmith.kinds.draws import Draws
from tunesmith.kinds.protocol import AnyModel, Kind

BATCH_EXAMPLES = 32
"""Most examples in a forward pass."""
MAX_BATCH_LOGITS = 2**25
"""128 MB. A causal model gives a logit per token and word of its vocabulary: fewer examples are in a batch then."""
MAX_LOGITS = 2**26
"""256 MB, in which the judged model's logits are kept; of what is beyond, the predictions alone are compared."""
MAX_TIMED_LOGITS = 2**28
"""1 GB: a forward pass that gives more is not timed."""
TIMED_EXAMPLES = (1, 32)


@dataclass(frozen=True)
class ParitySet:
    """What models are compared on.

    Attributes:
        features: The test examples, with their labels; at least one.
        kind: The kind of task.
        labels: The label set in id order.
        pad_token_id: What shorter examples are filled up with; masked.
        temperature: What the judged model's logits were divided by, if anything.
    """

    features: pa.Table
    kind: Kind
    labels: tuple[str, ...]
    pad_token_id: int
    temperature: float | None = None

    @cached_property
    def _rows(self) -> Features:
        return Features(self.features)

    def plan(self, num_logits: int) -> list[Array]:
        """The row numbers of each batch, where an example gives so many logits a token."""
        lengths = self._rows.lengths
        return plan_forward(lengths, BATCH_EXAMPLES, max(1, MAX_BATCH_LOGITS // num_logits))

    def collate(self, rows: Array) -> Batch:
        """Some examples as a batch, with their labels."""
        return self.kind.collate(self._rows.take(rows), self.pad_token_id)

    def find_median(self, num_examples: int) -> Array:
        """The row numbers of so many examples about the median length; the same ones again where there are fewer."""
        order = np.argsort(self._rows.lengths, kind="stable")
        start = max(0, len(order) // 2 - num_examples // 2)
        return np.resize(order[start : start + num_examples], num_examples)

    def tabulate(self, parts: list[dict[str, Array]], plan: Sequence[Array]) -> pa.Table:
        """The prediction table of what the kind keeps of each batch's logits."""
        found = self.kind.prediction_table(restore_order(parts, np.concatenate(plan)), self.features, self.labels)
        return found if self.temperature is None else self.kind.scale(found, self.labels, self.temperature)

    def summarize(self, logits: Array, batch: Batch) -> dict[str, Array]:
        """What the kind keeps of a batch's logits."""
        import torch

        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        return {name: value.numpy() for name, value in self.kind.summarize(torch.from_numpy(logits), tensors).items()}


@dataclass(frozen=True)
class Reference:
    """The judged model on the test set, computed on the CPU as it was trained: an adapter is not merged.

    Attributes:
        plan: The row numbers of each batch.
        best: The most likely class of each example or token, batch by batch.
        logits: The logits, shape (num_examples or num_tokens, num_classes), of the first batches.
        predictions: Its prediction table.
        has_tokens: Whether a token has its own logits.
    """

    plan: list[Array]
    best: list[Array]
    logits: list[Array]
    predictions: pa.Table
    has_tokens: bool

    @property
    def largest_logit(self) -> float:
        """The largest size of a logit."""
        return float(max(np.abs(logits).max() for logits in self.logits))

    @property
    def num_classes(self) -> int:
        """The logits of an example or token."""
        return int(self.logits[0].shape[1])


def compute_reference(model: AnyModel, test: ParitySet) -> Reference:
    """Run the judged model over the test set.

    Args:
        model: The model as it was trained; it is moved to the CPU, and left there in evaluation mode.
        test: The test set.
    """
    import torch

    model.to("cpu").eval()

    def compute(batch: Batch) -> Array:
        inputs = {name: torch.from_numpy(values) for name, values in batch.items() if name != "labels"}
        with torch.inference_mode():
            logits: Array = model(**inputs).logits.float().numpy()
        return logits

    shape = compute(test.collate(test.find_median(1))).shape
    has_tokens = len(shape) == 3
    plan = test.plan(shape[-1] if has_tokens else 1)
    best: list[Array] = []
    kept: list[Array] = []
    parts: list[dict[str, Array]] = []
    for rows in track(plan, "comparing: the judged model"):
        batch = test.collate(rows)
        logits = compute(batch)
        parts.append(test.summarize(logits, batch))
        real = _take_real(logits, batch)
        best.append(real.argmax(axis=1))
        if not kept or sum(part.size for part in kept) + real.size <= MAX_LOGITS:
            kept.append(real)
    return Reference(plan, best, kept, test.tabulate(parts, plan), has_tokens)


def measure_format(
    model: PlainModel,
    test: ParitySet,
    reference: Reference,
    judged: pa.Table,
    metric: str,
    *,
    title: str,
    num_threads: int,
) -> FormatReport:
    """Load an exported model in a clean process, time it, and compare it on the whole test set.

    Args:
        model: The exported model.
        test: The test set.
        reference: What the judged model gives for it.
        judged: The prediction table that the judged model was judged by.
        metric: The metric whose delta is measured, one of the kind's.
        title: What the progress bar says.
        num_threads: Threads of a forward pass.

    Returns:
        The report, without a verdict: shipped.

    Raises:
        TunesmithError: The library cannot load it or compute with it, or its logits have another shape.
    """
    timed = _choose_timed(test, reference)
    with open_plainly(model, timed, num_threads) as process:
        compared = _compare(process, test, reference, title)
    is_finite = np.isfinite(compared.max_difference)
    delta, interval = _compare_metric(compared.predictions, judged, test, metric) if is_finite else (None, None)
    return FormatReport(
        is_shipped=True,
        reason=None,
        size_bytes=measure_size(model.folder),
        num_examples=test.features.num_rows,
        agreement=compared.num_same / sum(map(len, reference.best)),
        max_logit_difference=compared.max_difference if is_finite else None,
        largest_logit=reference.largest_logit,
        num_logits=sum(logits.size for logits in reference.logits),
        metric=metric,
        metric_delta=delta,
        interval=interval,
        latency_seconds=process.latency_seconds,
        num_tokens=timed["1"]["input_ids"].shape[1],
        num_threads=num_threads,
        peak_memory_bytes=process.peak_memory_bytes,
    )


@dataclass(frozen=True)
class _Compared:
    num_same: int
    max_difference: float
    predictions: pa.Table


def _compare(process: CleanProcess, test: ParitySet, reference: Reference, title: str) -> _Compared:
    num_same, differences, parts = 0, [0.0], []
    for number, rows in enumerate(track(reference.plan, title)):
        batch = test.collate(rows)
        logits = process.compute_logits(batch)
        parts.append(test.summarize(logits, batch))
        real, best = _take_real(logits, batch), reference.best[number]
        if real.shape != (len(best), reference.num_classes):
            wanted = (len(best), reference.num_classes)
            raise TunesmithError(f"the exported model gives logits of shape {real.shape}, the candidate {wanted}")
        num_same += int((real.argmax(axis=1) == best).sum())
        if number < len(reference.logits):
            differences.append(float(np.abs(real - reference.logits[number]).max()))
        elif not np.isfinite(real).all():
            differences.append(np.nan)
    return _Compared(num_same, float(np.max(differences)), test.tabulate(parts, reference.plan))


def _choose_timed(test: ParitySet, reference: Reference) -> dict[str, Batch]:
    found: dict[str, Batch] = {}
    for number in TIMED_EXAMPLES:
        batch = test.collate(test.find_median(number))
        size = batch["input_ids"].size if reference.has_tokens else number
        if number == 1 or size * reference.num_classes <= MAX_TIMED_LOGITS:
            found[str(number)] = batch
    return found


def _compare_metric(found: pa.Table, judged: pa.Table, test: ParitySet, metric: str) -> tuple[float, Interval]:
    """What the metric changes by, and the interval of that over draws of the same examples for both."""
    ours, theirs = (test.kind.measure(table, test.labels) for table in (found, judged))
    before = compute_values(theirs, [metric])[metric]

    def compute(draws: Draws) -> Mapping[str, Array]:
        return {metric: ours.compute([metric], draws)[metric] - theirs.compute([metric], draws)[metric]}

    bootstrap = Bootstrap(compute, ours.num_examples, choose_num_draws(ours, metric))
    delta = compute_values(ours, [metric])[metric] - before
    if (bootstrap.drawn[metric] == delta).all():  # as where both predict alike
        return delta, Interval(low=delta, high=delta)
    return delta, bootstrap.find_interval(metric, CONFIDENCE)


def _take_real(logits: Array, batch: Batch) -> Array:
    """The logits of each example; of each token that is no padding, where a token has its own."""
    if logits.ndim == 2:
        return logits
    real: Any = logits[batch["attention_mask"].astype(bool)]
    return np.asarray(real)
