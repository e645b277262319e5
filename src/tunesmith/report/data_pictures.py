"""Pictures of a snapshot: its classes, how long its texts are, and which values are missing; now against before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.data.lengths import EDGES, Lengths
from tunesmith.data.profile import Profile
from tunesmith.data.rows import FloatArray
from tunesmith.report.figure import GREY, clear_axes, draw_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOW_COLOR, BEFORE_COLOR = "#7da7d9", "#c8471c"
MAX_BARS = 80
"""Classes that have a bar of their own; the rarest of more share one."""
MAX_LARGE = 12
"""Bars up to which they are large enough for words."""
MAX_NAME = 32
"""Characters of a name beside a bar."""
MAX_PANELS = 3
"""Columns of text that are drawn."""
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000, 10_000_000)

Shares = Mapping[str, float]


def draw_classes_png(now: Mapping[str, int], before: Mapping[str, int] | None, column: str) -> bytes:
    """The share of each value of a column, the most frequent on top.

    Args:
        now: Value -> rows.
        before: The same of an earlier snapshot.
        column: The column.
    """
    shares, earlier = _gather(now, before)
    height = 1.0 + max(0.24, 0.14 + 0.7 / max(len(shares), 1)) * max(len(shares), 2)
    return draw_figure(
        lambda figure: _plot_bars(figure, shares, earlier, f"share of rows with this {column}"), min(height, 14.0)
    )


def draw_lengths_png(now: Profile, before: Profile | None, columns: Sequence[str]) -> bytes:
    """How many words the texts of columns have, a panel for each of the first three."""
    chosen = columns[:MAX_PANELS]

    def plot(figure: Figure) -> None:
        for place, column in enumerate(chosen):
            lengths = now.columns[column].words
            assert lengths is not None
            earlier = None if before is None or column not in before.columns else before.columns[column].words
            _plot_lengths(figure.add_subplot(len(chosen), 1, place + 1), lengths, earlier, column)

    return draw_figure(plot, 0.6 + 2.2 * max(len(chosen), 1))


def draw_nulls_png(now: Profile, before: Profile | None) -> bytes:
    """The share of rows without a value, for each column that has such rows now or had them before."""
    shares = _null_shares(now)
    earlier = None if before is None else _null_shares(before)
    names = [name for name in shares if shares[name] or (earlier or {}).get(name)]
    chosen = {name: shares[name] for name in names[:MAX_BARS]}
    height = 1.2 + 0.3 * max(len(chosen), 1)
    return draw_figure(lambda figure: _plot_bars(figure, chosen, earlier, "share of rows without a value"), height)


def _gather(now: Mapping[str, int], before: Mapping[str, int] | None) -> tuple[Shares, Shares | None]:
    """Shares by value, those beyond the limit together; a value that is gone stands at the end."""
    names = list(dict.fromkeys([*now, *(before or {})]))
    shown, rest = names[:MAX_BARS], names[MAX_BARS:]

    def share(values: Mapping[str, int]) -> Shares:
        total = max(sum(values.values()), 1)
        shares = {name: values.get(name, 0) / total for name in shown}
        return shares | ({f"{len(rest)} others": sum(values.get(name, 0) for name in rest) / total} if rest else {})

    return share(now), None if before is None else share(before)


def _null_shares(profile: Profile) -> Shares:
    return {
        name: column.num_nulls / max(column.num_nulls + column.num_values, 1)
        for name, column in profile.columns.items()
    }


def _plot_bars(figure: Figure, shares: Shares, before: Shares | None, label: str) -> None:
    axes = figure.add_subplot()
    if not shares:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=GREY)
    places = np.arange(len(shares))
    percents = np.array([*shares.values()]) * 100
    axes.barh(places, percents, height=0.72, color=NOW_COLOR, label="now")
    reach = percents
    if before is not None:
        earlier = np.array([before.get(name, 0.0) for name in shares]) * 100
        size = 90 if len(shares) <= MAX_LARGE else 40
        axes.scatter(earlier, places, marker="|", s=size, linewidths=1.8, color=BEFORE_COLOR, label="before", zorder=3)
        reach = np.maximum(percents, earlier)
    font = 9.5 if len(shares) <= MAX_LARGE else 7.5
    for place, (name, share), edge in zip(places, shares.items(), reach, strict=True):
        text = _describe_share(share, None if before is None else before.get(name, 0.0), len(shares) <= MAX_LARGE)
        note = axes.annotate(
            text, (edge, place), (5, 0), textcoords="offset points", va="center", fontsize=font, color=GREY
        )
        note.set_in_layout(False)
    axes.set_yticks(places, [_shorten(name) for name in shares], fontsize=font)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, max([*reach, 1e-9]) * (1.2 if before is None else 1.45))
    axes.set_xlabel(f"{label} (%)")
    clear_axes(axes, "x")
    if before is not None and shares:
        figure.legend(frameon=False, loc="outside upper right", ncols=2)


def _describe_share(now: float, before: float | None, has_room: bool) -> str:
    text = f"{now * 100:.3g} %"
    if before is None:
        return text
    return f"{text} (before {before * 100:.3g} %)" if has_room else f"{text} ({before * 100:.3g})"


def _plot_lengths(axes: Axes, now: Lengths, before: Lengths | None, column: str) -> None:
    last = max([lengths.longest for lengths in (now, before) if lengths is not None])
    num_bins = int(np.searchsorted(EDGES, last, side="right"))
    edges = EDGES[: num_bins + 1].astype(np.float64)
    scaled = np.log2(edges + 1)
    axes.stairs(_as_percents(now, num_bins), scaled, fill=True, color=NOW_COLOR, label=f"now: {_describe(now)}")
    if before is not None:
        label = f"before: {_describe(before)}"
        axes.stairs(_as_percents(before, num_bins), scaled, color=BEFORE_COLOR, linewidth=1.6, label=label)
    ticks = [tick for tick in (0, *TICKS) if tick <= edges[-1]]
    axes.set_xticks(np.log2(np.array(ticks) + 1), [f"{tick:,}" for tick in ticks])
    axes.set_xlabel(f"words of {_shorten(column)}")
    axes.set_ylabel("share of rows (%)")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=8.5)
    clear_axes(axes, "y")


def _as_percents(lengths: Lengths, num_bins: int) -> FloatArray:
    percents: FloatArray = lengths.by_bin()[:num_bins] / max(lengths.num_texts, 1) * 100
    return percents


def _describe(lengths: Lengths) -> str:
    return f"median {lengths.quantile(0.5):,}, longest {lengths.longest:,}"


def _shorten(name: str) -> str:
    shown = " ".join(name.split()).replace("$", r"\$") or "(empty)"
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 3]}..."
