"""The page of a snapshot: its profile, and its drift against earlier ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.drift import DriftReport
from tunesmith.data.earlier import Earlier, compare_with_earlier
from tunesmith.data.profile import ColumnProfile, Profile
from tunesmith.data.stability import LEAST_ROWS, SHIFTED_PSI, STRONGLY_SHIFTED_PSI
from tunesmith.report.data_pictures import draw_classes_png, draw_lengths_png, draw_nulls_png
from tunesmith.report.markdown import escape_text, render_table

FOLDER = "profile"
"""The folder of a registration, and of the MLflow run, with all of it."""
PROFILE_FILE, PAGE_FILE = "profile.json", "profile.md"
TABLES = ("columns.json", "drift.json")
"""Tables as MLflow shows them."""
MAX_ROWS = 40
"""Columns and measures that the page shows; the tables have all."""
MAX_CLASSES = 15
"""Classes that the page names; the picture has more."""
MAX_CELL = 120


@dataclass(frozen=True)
class ProfilePage:
    """What people see of a snapshot.

    Attributes:
        markdown: The section of a page.
        pictures: Name -> PNG.
    """

    markdown: str
    pictures: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> ProfilePage | None:
        """What `write_profile` put in a folder; None where there is none."""
        page = folder / FOLDER / PAGE_FILE
        if not page.is_file():
            return None
        pictures = {path.stem: path.read_bytes() for path in sorted((folder / FOLDER).glob("*.png"))}
        return cls(page.read_text(encoding="utf-8"), pictures)


def write_profile(
    folder: Path, profile: Profile, earlier: Sequence[Earlier], labels: Sequence[str] = ()
) -> tuple[str, ...]:
    """Write the profile of a snapshot, its drift, their tables, page and pictures, in a folder of its own.

    Args:
        folder: The folder that gets it.
        profile: What the snapshot holds.
        earlier: What it is compared with.
        labels: Columns that hold labels.

    Returns:
        What the drift warns of, in sentences.
    """
    target = folder / FOLDER
    target.mkdir()
    drifts = compare_with_earlier(profile, earlier, labels)
    (target / PROFILE_FILE).write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    for name, table in zip(TABLES, (_tabulate_columns(profile), _tabulate_drift(drifts)), strict=True):
        (target / name).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    (target / PAGE_FILE).write_text(render_profile(profile, drifts, labels), encoding="utf-8")
    before = earlier[0].profile if earlier else None
    for name, picture in _draw(profile, before, labels):
        (target / f"{name}.png").write_bytes(picture)
    return tuple(f"Against {drift.against}: {warning}" for drift in drifts for warning in drift.warnings)


def render_profile(profile: Profile, drifts: Sequence[DriftReport], labels: Sequence[str] = ()) -> str:
    """The profile and its drift as a section of markdown, without its pictures."""
    parts = [f"## Data\n\n{_describe_rows(profile)}", _render_columns(profile)]
    classes = choose_classes(profile, labels)
    if classes is not None:
        parts.append(_render_classes(classes, profile.columns[classes].values or {}))
    parts += [_render_drift(drift) for drift in drifts]
    if not drifts:
        parts.append("There is no earlier snapshot of this recipe to compare with.")
    return "\n\n".join(parts) + "\n"


def choose_classes(profile: Profile, labels: Sequence[str] = ()) -> str | None:
    """The column whose classes are shown: the label, else the first column that looks like one."""
    known = [name for name in labels if name in profile.columns and profile.columns[name].values]
    found = [name for name, column in profile.columns.items() if column.is_categorical]
    return next(iter([*known, *found]), None)


def _draw(profile: Profile, before: Profile | None, labels: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    classes = choose_classes(profile, labels)
    if classes is not None:
        earlier = before.columns.get(classes) if before is not None else None
        values = earlier.values if earlier is not None else None
        yield "classes", draw_classes_png(profile.columns[classes].values or {}, values, classes)
    texts = [name for name, column in profile.columns.items() if _is_free_text(column) and name not in labels]
    if texts:
        yield "lengths", draw_lengths_png(profile, before, texts)
    columns = [*profile.columns.values(), *(before.columns.values() if before is not None else ())]
    if any(column.num_nulls for column in columns):
        yield "nulls", draw_nulls_png(profile, before)


def _is_free_text(column: ColumnProfile) -> bool:
    return column.words is not None and column.words.num_texts > 0 and not column.is_categorical


def _describe_rows(profile: Profile) -> str:
    parts = [f"{profile.num_rows:,} rows"]
    if profile.num_duplicates is not None:
        share = profile.num_duplicates / max(profile.num_rows, 1)
        parts.append(f"{profile.num_duplicates:,} of them exact duplicates of an earlier row ({share:.2%})")
    cut = profile.truncation
    if cut is not None:
        tokens = f"{cut.num_tokens_lost:,} of {cut.num_tokens:,} tokens lost"
        parts.append(f"{cut.num_lost:,} of {cut.num_rows:,} encoded rows too long ({tokens})")
    return "; ".join(parts) + "."


def _render_columns(profile: Profile) -> str:
    rows = [
        (escape_text(name, MAX_CELL), column.type, f"{column.num_nulls:,}", escape_text(_describe(column), MAX_CELL))
        for name, column in [*profile.columns.items()][:MAX_ROWS]
    ]
    more = len(profile.columns) - len(rows)
    note = f"\n\nand {more} more columns" if more > 0 else ""
    return render_table(("column", "type", "nulls", "holds"), rows) + note


def _describe(column: ColumnProfile) -> str:
    if column.is_categorical:
        return f"{len(column.values or {}):,} different values"
    if column.numbers is not None:
        numbers = column.numbers
        spread = f"quarters at {numbers.quantile(0.25):.4g}, {numbers.quantile(0.5):.4g}, {numbers.quantile(0.75):.4g}"
        return f"{numbers.least:.4g} to {numbers.greatest:.4g}, mean {numbers.mean:.4g}, {spread}"
    if column.words is not None and column.characters is not None and column.words.num_texts:
        words, characters = column.words, column.characters
        return (
            f"{words.mean:.1f} words on average, half up to {words.quantile(0.5):,}, 95 % up to "
            f"{words.quantile(0.95):,}, longest {words.longest:,} ({characters.longest:,} characters)"
        )
    return "no values" if not column.num_values else f"{len(column.values or {}):,} different values"


def _render_classes(column: str, values: Mapping[str, int]) -> str:
    total = max(sum(values.values()), 1)
    rows = [
        (escape_text(value, MAX_CELL), f"{count:,}", f"{count / total:.2%}")
        for value, count in [*values.items()][:MAX_CLASSES]
    ]
    more = len(values) - len(rows)
    if more > 0:
        rest = sum([*values.values()][MAX_CLASSES:])
        rows.append((f"{more} more", f"{rest:,}", f"{rest / total:.2%}"))
    return render_table((escape_text(column, MAX_CELL), "rows", "share"), rows)


def _render_drift(drift: DriftReport) -> str:
    heading = f"### Against {drift.against}: {drift.num_rows_before:,} rows, now {drift.num_rows:,}"
    lines = [f"- **{escape_text(warning)}**" for warning in drift.warnings]
    measures = sorted(drift.measures, key=lambda measure: -measure.psi)[:MAX_ROWS]
    rows = [
        (
            escape_text(measure.column or "(rows)", MAX_CELL), measure.measure, escape_text(measure.before, MAX_CELL),
            escape_text(measure.now, MAX_CELL), f"{measure.psi:.3f}", measure.verdict,
        )
        for measure in measures
    ]  # fmt: skip
    table = [render_table(("column", "measure", "before", "now", "PSI", "verdict"), rows)] if rows else []
    note = (
        f"PSI: population stability index; from {SHIFTED_PSI} shifted, from {STRONGLY_SHIFTED_PSI} strongly shifted, "
        "where chance alone would not give as much."
    )
    if not drift.is_judged:
        note = f"Fewer than {LEAST_ROWS} rows on one side: whether anything has shifted is not judged."
    return "\n\n".join([heading, *(["\n".join(lines)] if lines else ["Nothing to warn of."]), *table, note])


def _tabulate_columns(profile: Profile) -> dict[str, Any]:
    header = ["column", "type", "rows", "nulls", "different_values", "holds"]
    rows = [
        [name, column.type, column.num_values, column.num_nulls, _count_values(column), _describe(column)]
        for name, column in profile.columns.items()
    ]
    return {"columns": header, "data": rows}


def _count_values(column: ColumnProfile) -> int | None:
    return None if column.values is None else len(column.values)


def _tabulate_drift(drifts: Sequence[DriftReport]) -> dict[str, Any]:
    header = ["against", "column", "measure", "before", "now", "psi", "total_variation", "verdict"]
    rows: list[list[Any]] = []
    for drift in drifts:
        rows.append([drift.against, "", "rows", f"{drift.num_rows_before:,}", f"{drift.num_rows:,}", None, None, ""])
        rows += [[drift.against, "", "warning", "", warning, None, None, ""] for warning in drift.warnings]
        rows += [[drift.against, *(getattr(measure, name) for name in header[1:])] for measure in drift.measures]
    return {"columns": header, "data": rows}
