"""The summary of a run: what happened, in numbers, for a terminal, for `--json` and for a page."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.store.ref import Ref

MAX_DROP_REASONS = 20
"""Longer lists of reasons are cut, so that a page stays below the 200 KiB that it may take."""
MAX_TEXT = 500
"""Characters of a reason that a page shows."""


class StageSummary(BaseModel):
    """How one stage went."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The stage, such as `train`."""
    key: str
    """The key of its artifact."""
    is_cached: bool
    """Whether the artifact was found instead of computed."""
    reason: str
    """Why it was computed; empty when it was found."""
    seconds: float
    """How long it took, the look-up included."""


class RunSummary(BaseModel):
    """All that a person wants to know of a run."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The recipe's name."""
    rows_in: int
    """Rows read from the sources."""
    dropped: dict[str, int]
    """Rows dropped, by reason."""
    num_rows: dict[str, int]
    """Rows of each split."""
    num_truncated: dict[str, int]
    """Examples of each split that were longer than `max_length`."""
    num_steps: int
    """Optimizer steps of the training."""
    num_epochs: float
    """Epochs of the training."""
    weights_sha256: str
    """The sha256 of the trained weights, or of the adapter."""
    resumed_from_step: int | None
    """The checkpoint from which the training went on; None when it was never interrupted."""
    examples_per_second: float
    """The training's speed."""
    train_loss: float | None
    """The last training loss."""
    validation_loss: float | None
    """The last validation loss."""
    num_test_examples: int
    """Test examples that the metrics are over."""
    metrics: dict[str, float]
    """The candidate's metrics."""
    baseline_name: str
    """What the candidate is compared with."""
    baseline_metrics: dict[str, float]
    """The baseline's metrics."""
    primary_metric: str
    """The metric that the decision rests on."""
    greater_is_better: bool
    """The better direction of the primary metric."""
    verdict: str
    """PROMOTE or HOLD."""
    reasons: tuple[str, ...]
    """Why, a sentence a reason."""
    model_name: str
    """The registered model."""
    version: str
    """The version of the registered model that is this candidate."""
    aliases: tuple[str, ...]
    """The aliases of that version."""
    mlflow_run_id: str
    """The MLflow run of the candidate."""
    model_uri: str
    """Where MLflow serves the model from."""
    experiment: str
    """The MLflow experiment."""
    stages: tuple[StageSummary, ...]
    """The stages, in the order in which they ran."""
    seconds: float
    """The stages' times, added up."""


def summarize_run(name: str, refs: Iterable[Ref]) -> RunSummary:
    """Put a run's references together.

    Args:
        name: The recipe's name.
        refs: The references of all stages, in the order in which they ran; each carries the facts of its stage.

    Raises:
        KeyError: A stage is missing, or a fact that its stage promises.
    """
    stages = tuple(refs)
    facts: dict[str, dict[str, Any]] = {ref.kind: ref.facts for ref in stages}
    train, report, version = facts["train"], facts["evaluate"], facts["register"]
    return RunSummary(
        name=name,
        rows_in=facts["snapshot"]["rows_in"],
        dropped=facts["snapshot"]["dropped"],
        num_rows=facts["split"]["num_rows"],
        num_truncated=facts["encode"]["num_truncated"],
        num_steps=train["num_steps"],
        num_epochs=train["num_epochs"],
        weights_sha256=train["weights_sha256"],
        resumed_from_step=train["resumed_from_step"],
        examples_per_second=train["examples_per_second"],
        train_loss=train["train_loss"],
        validation_loss=train["validation_loss"],
        num_test_examples=report["num_examples"],
        metrics=report["metrics"],
        baseline_name=report["baseline"]["name"],
        baseline_metrics=report["baseline"]["metrics"],
        primary_metric=report["primary_metric"],
        greater_is_better=report["greater_is_better"],
        verdict=facts["decide"]["verdict"],
        reasons=tuple(facts["decide"]["reasons"]),
        model_name=version["model_name"],
        version=str(version["version"]),
        aliases=tuple(version["aliases"]),
        mlflow_run_id=version["mlflow_run_id"],
        model_uri=version["model_uri"],
        experiment=version["experiment"],
        stages=tuple(_summarize_stage(ref) for ref in stages),
        seconds=sum(ref.seconds for ref in stages),
    )


def render_markdown(summary: RunSummary, loss_curve: bytes | None = None) -> str:
    """The summary as a page of markdown.

    Args:
        summary: What happened.
        loss_curve: The loss curve as a PNG, shown in the page itself.
    """
    sections = [_decision(summary), _metrics(summary), _rows(summary), _training(summary, loss_curve), _stages(summary)]
    return "\n\n".join([f"# {_text(summary.name)}", *sections]) + "\n"


def describe_steps(summary: RunSummary) -> str:
    """How long the training was, such as `200 steps (0.787 epochs)`."""
    epochs = "1 epoch" if summary.num_epochs == 1 else f"{summary.num_epochs:.3g} epochs"
    return f"{summary.num_steps:,} steps ({epochs})"


def _summarize_stage(ref: Ref) -> StageSummary:
    return StageSummary(name=ref.kind, key=ref.key, is_cached=ref.is_cached, reason=ref.reason, seconds=ref.seconds)


def _decision(summary: RunSummary) -> str:
    aliases = f", alias {', '.join(f'**{_text(alias)}**' for alias in summary.aliases)}" if summary.aliases else ""
    lines = [f"**{summary.verdict}**: {_text(summary.model_name)} version **{_text(summary.version)}**{aliases}", ""]
    lines += [f"- {_text(reason)}" for reason in summary.reasons]
    where = f"Model `{summary.model_uri}`, experiment `{summary.experiment}`, MLflow run `{summary.mlflow_run_id}`"
    lines += ["", where]
    return "\n".join(lines)


def _metrics(summary: RunSummary) -> str:
    rows = []
    for name in sorted(summary.metrics, key=lambda name: (name != summary.primary_metric, name)):
        label = f"**{name}** (primary)" if name == summary.primary_metric else name
        baseline = summary.baseline_metrics.get(name)
        gain = "" if baseline is None else f"{summary.metrics[name] - baseline:+.4f}"
        rows.append((label, f"{summary.metrics[name]:.4f}", "" if baseline is None else f"{baseline:.4f}", gain))
    direction = "greater" if summary.greater_is_better else "less"
    heading = f"## Metrics on {summary.num_test_examples:,} test examples"
    note = f"The decision rests on {summary.primary_metric}: {direction} is better."
    header = ("metric", "candidate", f"baseline: {_text(summary.baseline_name)}", "difference")
    return f"{heading}\n\n{_table(header, rows)}\n\n{note}"


def _rows(summary: RunSummary) -> str:
    rows = [("read", f"{summary.rows_in:,}", "")]
    reasons = sorted(summary.dropped.items(), key=lambda item: (-item[1], item[0]))
    rows += [("dropped", f"{count:,}", _text(reason)) for reason, count in reasons[:MAX_DROP_REASONS]]
    if len(reasons) > MAX_DROP_REASONS:
        rest = reasons[MAX_DROP_REASONS:]
        rows.append(("dropped", f"{sum(count for _, count in rest):,}", f"{len(rest)} more reasons"))
    for split, count in summary.num_rows.items():
        truncated = summary.num_truncated.get(split, 0)
        rows.append((split, f"{count:,}", f"{truncated:,} truncated" if truncated else ""))
    return f"## Rows\n\n{_table(('', 'rows', ''), rows)}"


def _training(summary: RunSummary, loss_curve: bytes | None) -> str:
    losses = {"train loss": summary.train_loss, "validation loss": summary.validation_loss}
    last = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items() if loss is not None)
    speed = f"{summary.examples_per_second:,.1f} examples a second"
    lines = [f"## Training\n\n{describe_steps(summary)}, {speed}"]
    if last:
        lines[0] += f"; at the end: {last}"
    if loss_curve is not None:
        lines.append(f"![loss curve](data:image/png;base64,{base64.b64encode(loss_curve).decode()})")
    return "\n\n".join(lines)


def _stages(summary: RunSummary) -> str:
    rows = [
        (stage.name, f"{stage.seconds:.1f}", "cached" if stage.is_cached else _text(stage.reason), f"`{stage.key}`")
        for stage in summary.stages
    ]
    rows.append(("**all**", f"**{summary.seconds:.1f}**", "", ""))
    return f"## Stages\n\n{_table(('stage', 'seconds', 'why', 'key'), rows)}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = "|".join(" --- " for _ in header)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(header) + " |", f"|{rule}|", *lines])


def _text(value: str) -> str:
    """Text that stands in a table's cell without breaking it, and stays text."""
    short = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 3] + "..."
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        short = short.replace(mark, escaped)
    return short
