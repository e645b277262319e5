"""The page of a run: its summary, the loss curve and the data, in markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunesmith.report.calibration import describe_calibration
from tunesmith.report.formats import describe_format
from tunesmith.report.markdown import escape_text, render_picture, render_table
from tunesmith.report.profile_page import ProfilePage
from tunesmith.report.summary import RunSummary, describe_merging, describe_start, describe_steps

MAX_DROP_REASONS = 20
"""Longer lists of reasons are cut, so that a page stays below the 200 KiB that it may take."""
MAX_STEPS = 40
"""So are longer lists of steps."""
MAX_PAGE_BYTES = 200 * 1024
"""What a page may take; a picture that would not fit is left out, and said to be."""
MAX_NOTE_BYTES = 1024
"""What may be said in place of pictures."""
LOSS_CURVE = "loss curve"


def render_markdown(summary: RunSummary, loss_curve: bytes | None = None, profile: ProfilePage | None = None) -> str:
    """The summary as a page of markdown, below 200 KiB.

    Args:
        summary: What happened.
        loss_curve: The loss curve as a PNG, shown in the page itself.
        profile: The section on the data, with its pictures.
    """
    judged = [_decision(summary), _metrics(summary), _slices(summary)]
    what = [*judged, _warnings(summary), _rows(summary), _leakage(summary)]
    data = "" if profile is None else profile.markdown.rstrip()
    training, stages = _training(summary), "\n\n".join([_formats(summary), _stages(summary)])
    size = sum(len(text.encode()) + 2 for text in (*what, data, training, stages))
    pictures = {} if loss_curve is None else {LOSS_CURVE: loss_curve}
    shown = dict(_fit_pictures(pictures | ({} if profile is None else dict(profile.pictures)), size))
    curve = shown.pop(LOSS_CURVE, "")
    sections = [f"# {escape_text(summary.name)}", *what, data, *shown.values(), training, curve, stages]
    return "\n\n".join(filter(None, sections)) + "\n"


def _decision(summary: RunSummary) -> str:
    aliases = (
        f", alias {', '.join(f'**{escape_text(alias)}**' for alias in summary.aliases)}" if summary.aliases else ""
    )
    lines = [
        f"**{summary.verdict}**: {escape_text(summary.model_name)} version **{escape_text(summary.version)}**{aliases}",
        "",
    ]
    lines += [f"- {escape_text(reason)}" for reason in (*summary.reasons, summary.approval) if reason]
    where = f"Model `{summary.model_uri}`, experiment `{summary.experiment}`, MLflow run `{summary.mlflow_run_id}`"
    lines += ["", where]
    if summary.report_uri is not None:
        lines += ["", f"[Report]({summary.report_uri}): errors, flips, slices and reliability, with pictures"]
    return "\n".join(lines)


def _metrics(summary: RunSummary) -> str:
    rows = []
    for name in sorted(summary.metrics, key=lambda name: (name != summary.primary_metric, name)):
        label = f"**{name}** (primary)" if name == summary.primary_metric else name
        baseline = summary.baseline_metrics.get(name)
        gain = "" if baseline is None else f"{summary.metrics[name] - baseline:+.4f}"
        value, interval = f"{summary.metrics[name]:.4f}", str(summary.intervals[name])
        rows.append((label, value, interval, "" if baseline is None else f"{baseline:.4f}", gain))
    direction = "greater" if summary.greater_is_better else "less"
    heading = f"## Metrics on {summary.num_test_examples:,} test examples"
    note = f"The decision rests on {summary.primary_metric}: {direction} is better."
    calibration = describe_calibration(summary.calibration)
    if calibration is not None:
        note += f" Calibration: {calibration}."
    header = ("metric", "candidate", "95 % interval", f"baseline: {escape_text(summary.baseline_name)}", "difference")
    return f"{heading}\n\n{render_table(header, rows)}\n\n{note}"


def _slices(summary: RunSummary) -> str:
    rows = []
    for part in summary.slices:
        value, interval = part["metrics"].get(summary.primary_metric), part["intervals"].get(summary.primary_metric)
        between = "" if interval is None else f"{interval['low']:.4f} to {interval['high']:.4f}"
        number = "" if value is None else f"{value:.4f}"
        rows.append((escape_text(part["name"]), f"{part['num_examples']:,}", number, between))
    if not rows:
        return ""
    return f"## Slices\n\n{render_table(('slice', 'examples', summary.primary_metric, '95 % interval'), rows)}"


def _warnings(summary: RunSummary) -> str:
    if not summary.drift_warnings:
        return ""
    return "\n".join(["## What has changed in the data", "", *(f"- {escape_text(w)}" for w in summary.drift_warnings)])


def _rows(summary: RunSummary) -> str:
    rows = [("read", f"{summary.rows_in:,}", "")]
    for fate, counts in (
        ("dropped", summary.dropped),
        ("quarantined", summary.quarantined),
        ("left out", summary.left_out),
    ):
        rows += _reason_rows(fate, counts)
    for split, count in summary.num_rows.items():
        truncated = summary.num_truncated.get(split, 0)
        rows.append((split, f"{count:,}", _describe_cut(summary, split) if truncated else ""))
    steps = [
        (escape_text(step.step), f"{step.rows_in:,}", f"{step.rows_out:,}") for step in summary.data_steps[:MAX_STEPS]
    ]
    tables = [render_table(("", "rows", ""), rows), render_table(("step", "rows in", "rows out"), steps)]
    page = "\n\n".join(["## Rows", *tables])
    if summary.quarantine_key is None:
        return page
    look = f"`tunesmith data quarantine {summary.quarantine_key}`"
    return f"{page}\n\n{summary.num_quarantined:,} rows are in quarantine; a row may have several reasons: {look}"


def _reason_rows(fate: str, counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
    reasons = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(fate, f"{count:,}", escape_text(reason)) for reason, count in reasons[:MAX_DROP_REASONS]]
    rest = reasons[MAX_DROP_REASONS:]
    return [*rows, *([(fate, f"{sum(count for _, count in rest):,}", f"{len(rest)} more reasons")] if rest else [])]


def _describe_cut(summary: RunSummary, split: str) -> str:
    lost = f"{summary.lost_token_fraction[split]:.2%} of their tokens lost"
    return f"{summary.num_truncated[split]:,} truncated ({summary.lost_row_fraction[split]:.2%} of rows, {lost})"


def _leakage(summary: RunSummary) -> str:
    leakage = summary.leakage
    if not leakage.get("is_checked"):
        return ""
    rows = [
        (
            item["into"],
            item["from"],
            f"{item['num_into']:,}",
            f"{item['fraction_into']:.2%}",
            f"{item['num_into_equal']:,}",
        )
        for item in leakage["between"]
    ]
    header = ("rows of", "with their like in", "rows", "share", "of these equal")
    note = f"Similarity {leakage['threshold']} or more; policy: {leakage['policy']}."
    return f"## Leakage between the splits\n\n{render_table(header, rows)}\n\n{note}"


def _training(summary: RunSummary) -> str:
    losses = {"train loss": summary.train_loss, "validation loss": summary.validation_loss}
    last = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items() if loss is not None)
    speed = f"{summary.examples_per_second:,.1f} examples a second"
    text = ", ".join(filter(None, [describe_steps(summary), describe_start(summary), speed]))
    what = f"## Training\n\n{text}" + (f"; at the end: {last}" if last else "")
    merging = describe_merging(summary)
    return what if merging is None else f"{what}\n\nOn {summary.num_test_examples:,} test examples, {merging}."


def _formats(summary: RunSummary) -> str:
    """Each format with what was measured of it, and why, where it is not shipped."""
    rows = []
    header: tuple[str, ...] = ("format", "")
    for name, report in summary.formats.items():
        found = describe_format(report)
        header = ("format", "", *found)
        rows.append((name, "shipped" if report.is_shipped else "**not shipped**", *found.values()))
    faults = [f"- {name}: {escape_text(item.reason)}" for name, item in summary.formats.items() if item.reason]
    return "\n\n".join(filter(None, ["## Exports", render_table(header, rows), "\n".join(faults)]))


def _fit_pictures(pictures: Mapping[str, bytes], size: int) -> Iterator[tuple[str, str]]:
    """The pictures as they stand in a page that has some bytes already; in place of one that is too large, a note."""
    for name, picture in pictures.items():
        rendered = render_picture(name, picture)
        if size + len(rendered) + MAX_NOTE_BYTES > MAX_PAGE_BYTES:
            rendered = f"The picture of the {name} is too large for this page; it is in the MLflow run."
        size += len(rendered)
        yield name, rendered


def _stages(summary: RunSummary) -> str:
    rows = [
        (
            stage.name,
            f"{stage.seconds:.1f}",
            "cached" if stage.is_cached else escape_text(stage.reason),
            f"`{stage.key}`",
        )
        for stage in summary.stages
    ]
    rows.append(("**all**", f"**{summary.seconds:.1f}**", "", ""))
    return f"## Stages\n\n{render_table(('stage', 'seconds', 'why', 'key'), rows)}"
