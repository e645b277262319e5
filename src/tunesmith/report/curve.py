"""The loss curve of a training, drawn from its metrics rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.report.figure import GREY, clear_axes, draw_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
"""One line of metrics.jsonl: `step`, `epoch` and `metrics`."""

TRAIN_COLOR, VALIDATION_COLOR = "#7da7d9", "#c8471c"
HEIGHT_INCHES = 3.6
NUM_RAW_POINTS = 40
"""Up to here every training point is drawn as it is; beyond, a moving mean is drawn over the pale points."""


def read_metric_rows(path: Path) -> list[Row]:
    """The rows of a candidate's metrics.jsonl, in the order in which they were logged."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def draw_loss_png(rows: Sequence[Row]) -> bytes:
    """The loss curve as a PNG, 640 by 360 pixels.

    Args:
        rows: The rows of metrics.jsonl; those without a loss are passed over.
    """
    return draw_figure(lambda figure: _plot(figure.add_subplot(), rows), HEIGHT_INCHES)


def draw_loss_svg(rows: Sequence[Row]) -> str:
    """The loss curve as SVG text; equal rows give equal text."""
    return draw_figure(lambda figure: _plot(figure.add_subplot(), rows), HEIGHT_INCHES, "svg").decode()


def _plot(axes: Axes, rows: Sequence[Row]) -> None:
    _plot_train(axes, *_find_points(rows, "train/loss"))
    _plot_validation(axes, *_find_points(rows, "validation/loss"))
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("cross-entropy loss (nats)")
    clear_axes(axes, "both")
    _mark_epochs(axes, rows)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right")
    else:
        axes.text(0.5, 0.5, "no loss was logged", transform=axes.transAxes, ha="center", color=GREY)


def _plot_train(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    if len(steps) == 0:
        return
    if len(steps) <= NUM_RAW_POINTS:
        marker = "." if len(steps) < 3 else None
        axes.plot(steps, losses, color=TRAIN_COLOR, linewidth=1.8, marker=marker, label="train")
        return
    axes.plot(steps, losses, color=TRAIN_COLOR, linewidth=0.8, alpha=0.45)
    window = max(5, len(steps) // 20)
    means = _moving_mean(losses, window)
    axes.plot(steps, means, color=TRAIN_COLOR, linewidth=1.8, label=f"train (mean of {window} points)")


def _plot_validation(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    if len(steps) == 0:
        return
    axes.plot(steps, losses, color=VALIDATION_COLOR, linewidth=1.8, marker="o", markersize=4.5, label="validation")
    last = (steps[-1], losses[-1])
    axes.annotate(f"{last[1]:.4g}", last, (0, 7), textcoords="offset points", ha="right", color=VALIDATION_COLOR)


def _mark_epochs(axes: Axes, rows: Iterable[Row]) -> None:
    last = max(rows, key=lambda row: float(row["step"]), default=None)
    if last is None or last["step"] <= 0 or last["epoch"] <= 0:
        return
    steps_per_epoch = last["step"] / last["epoch"]
    top = axes.secondary_xaxis("top", functions=(lambda s: s / steps_per_epoch, lambda e: e * steps_per_epoch))
    top.set_xlabel("epoch")
    top.spines["top"].set_visible(False)


def _find_points(rows: Iterable[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], row["metrics"][name]) for row in rows if row["metrics"].get(name) is not None]
    steps, losses = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, losses


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each value and up to `window - 1` values before it; shape as `values`."""
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
