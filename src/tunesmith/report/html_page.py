"""The report of a candidate as one HTML file: no script, nothing from elsewhere, whatever the rows hold."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tunesmith.evaluation.error_analysis import BROKEN, FIXED, MAX_TEXT, Matrix, shorten
from tunesmith.evaluation.gate import write_p_value
from tunesmith.export.formats import FormatReport
from tunesmith.report.calibration import describe_calibration
from tunesmith.report.curve import draw_loss_svg
from tunesmith.report.formats import describe_format
from tunesmith.report.story import MIN_SUPPORT, Story, describe_lineage, describe_rows, describe_training, find_limits

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SHOWN_ROWS, MAX_SHOWN_FLIPS = 25, 15
"""Rows with texts that the report shows, of those in the tables beside it; flips each way."""
MAX_SHOWN_CLASSES, MAX_SHOWN_PAIRS, MAX_SHOWN_SLICES, MAX_METRICS = 30, 15, 60, 60
MAX_NAME = 80
"""Characters of a label, a slice's name or a reason's part that is shown."""
MAX_REASON, MAX_RECIPE = 600, 20_000


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot; places are percents of its width.

    Attributes:
        name: What it is of.
        value: The number, as text.
        interval: Its interval, as text; empty where there is none.
        place: Where the dot is.
        low: Where the interval begins.
        high: Where it ends.
        other: Where what it is compared with is.
        note: What else is said of it.
    """

    name: str
    value: str
    interval: str
    place: float | None
    low: float | None = None
    high: float | None = None
    other: float | None = None
    note: str = ""


def render_html(story: Story) -> str:
    """The report, below 2 MB whatever the rows are.

    Every value goes through the template's escaping: a text or a label cannot become part of the page.
    """
    facts, errors, decided = story.report.facts, story.errors, story.decided
    losses = draw_loss_svg(story.metric_rows)
    flips = {change: _pick_flips(errors.flips, change) for change in (FIXED, BROKEN)}
    return _template().render(
        story=story,
        version=story.version,
        decided=decided,
        reasons=[shorten(reason, MAX_REASON) for reason in decided.reasons],
        metrics=_plot_metrics(facts),
        baseline_name=shorten(facts["baseline"]["name"], MAX_NAME),
        comparison=decided.comparison,
        p_value="" if decided.comparison is None else write_p_value(decided.comparison.p_value),
        gain=_plot_gain(story),
        slices=_plot_slices(story),
        findings=[item for item in decided.slices if item.is_broken][:MAX_SHOWN_SLICES],
        matrix=None if errors.matrix is None else _shade(errors.matrix),
        confusions=_pick(errors.confusions, MAX_SHOWN_PAIRS),
        classes=_pick(errors.classes, MAX_SHOWN_CLASSES),
        num_classes=0 if errors.classes is None else errors.classes.num_rows,
        reliability=errors.reliability,
        temperature=describe_calibration(story.report.facts.get("calibration")),
        flips=flips,
        losses=_pick(errors.losses, MAX_SHOWN_ROWS),
        loss_curve=base64.b64encode(losses.encode()).decode(),
        data=describe_rows(story),
        dropped=_largest(story.snapshot.facts.get("dropped", {})),
        training=describe_training(story),
        formats=_describe_formats(story.exported.facts.get("formats", {})),
        lineage=describe_lineage(story),
        limits=find_limits(story),
        recipe=shorten(story.recipe_text, MAX_RECIPE),
        max_text=MAX_TEXT,
        min_support=MIN_SUPPORT,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("tunesmith.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["name"] = lambda value: shorten(str(value), MAX_NAME)
    return environment.get_template("report.html")


def _plot_metrics(facts: Mapping[str, Any]) -> list[Dot]:
    """The metrics between 0 and 1 with the baseline's; others have no place."""
    first = facts["primary_metric"]
    names = sorted(facts["metrics"], key=lambda name: (name != first, name))[:MAX_METRICS]
    intervals, baseline = facts.get("intervals", {}), facts["baseline"]["metrics"]
    return [
        _dot(name, facts["metrics"][name], intervals.get(name), baseline.get(name), "primary" if name == first else "")
        for name in names
    ]


def _plot_slices(story: Story) -> list[Dot]:
    metric, facts = story.report.facts["primary_metric"], story.report.facts
    found = []
    for part in facts.get("slices", ())[:MAX_SHOWN_SLICES]:
        few = f", fewer than {MIN_SUPPORT}: says little" if part["num_examples"] < MIN_SUPPORT else ""
        note = f"{part['num_examples']:,} rows{few}"
        value = part["metrics"].get(metric)
        found.append(_dot(part["name"], value, part["intervals"].get(metric), facts["metrics"][metric], note))
    return found


def _plot_gain(story: Story) -> Dot | None:
    """The gain over the opponent on an axis with zero in the middle."""
    found = story.decided.comparison
    if found is None:
        return None
    reach = max(abs(found.gain), abs(found.interval.low), abs(found.interval.high), 1e-9) * 1.15

    def place(value: float) -> float:
        return 50 + 50 * value / reach

    low, high = found.interval.low, found.interval.high
    text, interval = f"{found.gain:+.4f}", f"{low:+.4f} to {high:+.4f}"
    return Dot(f"gain in {found.metric}", text, interval, place(found.gain), place(low), place(high), 50.0)


def _dot(name: str, value: float | None, interval: Mapping[str, float] | None, other: float | None, note: str) -> Dot:
    if value is None:
        return Dot(shorten(name, MAX_NAME), "not defined", "", None, note=note)
    low, high = (None, None) if interval is None else (interval["low"], interval["high"])
    text = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
    numbers = [number for number in (value, low, high, other) if number is not None]
    if min(numbers) < 0 or max(numbers) > 1:
        return Dot(shorten(name, MAX_NAME), f"{value:.4f}", text, None, note=note)
    ends = [None if number is None else 100 * number for number in (low, high, other)]
    return Dot(shorten(name, MAX_NAME), f"{value:.4f}", text, 100 * value, ends[0], ends[1], ends[2], note)


def _shade(matrix: Matrix) -> list[tuple[str, list[tuple[int, int]]]]:
    """By true label: each count, and its share of the row in percent."""
    return [
        (shorten(label, MAX_NAME), [(count, round(100 * count / max(sum(row), 1))) for count in row])
        for label, row in zip(matrix.labels, matrix.counts, strict=True)
    ]


def _pick(table: pa.Table | None, limit: int) -> list[dict[str, Any]]:
    return [] if table is None else list(table.slice(0, limit).to_pylist())


def _pick_flips(table: pa.Table | None, change: str) -> list[dict[str, Any]]:
    return [row for row in _pick(table, 10**6) if row["change"] == change][:MAX_SHOWN_FLIPS]


def _describe_formats(formats: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """By format, a name and a value of what was measured of it."""
    reports = {name: FormatReport.model_validate(report) for name, report in formats.items()}
    return [
        (name, [*describe_format(report).items(), *([("fault", report.reason)] if report.reason else [])])
        for name, report in reports.items()
    ]


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    found: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(shorten(name, MAX_NAME), count) for name, count in found][:MAX_SHOWN_CLASSES]
