"""How a snapshot differs from an earlier one: what is new, what is gone, and what has moved."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunesmith.data.lengths import EDGES, Lengths
from tunesmith.data.numbers import Numbers
from tunesmith.data.profile import ColumnProfile, Profile
from tunesmith.data.stability import LEAST_ROWS, Counts, Verdict, compute_total_variation, judge_counts

log = logging.getLogger(__name__)

DECILES = [tenth / 10 for tenth in range(1, 10)]
"""Where the groups that lengths and numbers are compared in begin: tenths of the earlier rows."""
MAX_NAMED = 10
"""Values that a warning names before it only counts them."""
MAX_NAME_CHARACTERS = 60
MAX_WARNINGS = 20

Pairs = dict[str, tuple[ColumnProfile, ColumnProfile]]
"""Name of a column -> what it held before, and holds now."""


class Drift(BaseModel):
    """One measure of a snapshot, before and now."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    column: str
    """The column; empty for a measure of whole rows."""
    measure: str
    """What was measured: nulls, classes, numbers, characters, words, duplicates, rows too long."""
    before: str
    """What it was, in words."""
    now: str
    """What it is."""
    psi: float
    """The population stability index."""
    total_variation: float
    """The share of rows that would have to change groups, in [0, 1]."""
    verdict: Verdict
    """What the index says."""


class DriftReport(BaseModel):
    """How a snapshot differs from an earlier one."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    against: str
    """Whose rows the earlier ones are."""
    num_rows_before: int
    """Its rows."""
    num_rows: int
    """The rows now."""
    new_columns: tuple[str, ...]
    """Columns that were not there."""
    vanished_columns: tuple[str, ...]
    """Columns that are not there any more."""
    changed_types: dict[str, tuple[str, str]]
    """Column -> its type before and now."""
    new_values: dict[str, dict[str, int]]
    """Column of classes -> each value that it did not have, and how many rows have it."""
    vanished_values: dict[str, dict[str, int]]
    """Column of classes -> each value that it has no more, and how many rows had it."""
    measures: tuple[Drift, ...]
    """Every measure that both have."""
    warnings: tuple[str, ...]
    """What a person should look at, in sentences."""

    @property
    def is_judged(self) -> bool:
        """Whether there are rows enough on both sides to say what has shifted."""
        return min(self.num_rows, self.num_rows_before) >= LEAST_ROWS


def compare_profiles(
    before: Profile, now: Profile, *, against: str = "the last snapshot", labels: Collection[str] = ()
) -> DriftReport:
    """Compare a snapshot with an earlier one.

    Args:
        before: The earlier one.
        now: The later one.
        against: What to call the earlier one.
        labels: Columns that hold labels, and so are compared by their values however rarely these repeat.
    """
    both = [name for name in now.columns if name in before.columns]
    pairs = {name: (before.columns[name], now.columns[name]) for name in both}
    classes = {name: pair for name, pair in pairs.items() if _has_classes(*pair, name in labels)}
    report = DriftReport(
        against=against,
        num_rows_before=before.num_rows,
        num_rows=now.num_rows,
        new_columns=tuple(name for name in now.columns if name not in before.columns),
        vanished_columns=tuple(name for name in before.columns if name not in now.columns),
        changed_types={name: (old.type, new.type) for name, (old, new) in pairs.items() if old.type != new.type},
        new_values=_name_missing({name: (new, old) for name, (old, new) in classes.items()}),
        vanished_values=_name_missing(classes),
        measures=(*_measure_rows(before, now), *_measure_columns(pairs, classes)),
        warnings=(),
    )
    warnings = [*_warn_of_shape(report), *_warn_of_values(report), *_warn_of_many(pairs), *_warn_of_measures(report)]
    if len(warnings) > MAX_WARNINGS:
        warnings = [*warnings[: MAX_WARNINGS - 1], f"and {len(warnings) - MAX_WARNINGS + 1} more warnings."]
    return report.model_copy(update={"warnings": tuple(warnings)})


def log_warnings(reports: Sequence[DriftReport]) -> None:
    """Tell what the reports warn of, before anything is made of the rows."""
    for report in reports:
        for warning in report.warnings:
            log.warning("snapshot, against %s: %s", report.against, warning)


def _has_classes(before: ColumnProfile, now: ColumnProfile, is_label: bool) -> bool:
    if before.values is None or now.values is None:
        return False
    return is_label or before.is_categorical


def _name_missing(pairs: Pairs) -> dict[str, dict[str, int]]:
    """Of each column, the values that the first has and the second has not."""
    found = {}
    for name, (one, other) in pairs.items():
        missing = {value: count for value, count in (one.values or {}).items() if value not in (other.values or {})}
        if missing:
            found[name] = missing
    return found


def _measure_rows(before: Profile, now: Profile) -> Iterator[Drift]:
    if before.num_duplicates is not None and now.num_duplicates is not None:
        shares = (before.num_duplicates, before.num_rows), (now.num_duplicates, now.num_rows)
        yield _compare_shares("", "duplicates", *shares)
    if before.truncation is not None and now.truncation is not None:
        old, new = before.truncation, now.truncation
        yield _compare_shares("", "rows too long", (old.num_lost, old.num_rows), (new.num_lost, new.num_rows))


def _measure_columns(pairs: Pairs, classes: Collection[str]) -> Iterator[Drift]:
    for name, (old, new) in pairs.items():
        nulls = (old.num_nulls, old.num_nulls + old.num_values), (new.num_nulls, new.num_nulls + new.num_values)
        if old.num_nulls or new.num_nulls:
            yield _compare_shares(name, "nulls", *nulls)
        if name in classes:
            yield _compare_classes(name, old.values or {}, new.values or {})
            continue
        if old.numbers is not None and new.numbers is not None:
            yield _compare_numbers(name, old.numbers, new.numbers)
        for measure in ("characters", "words"):
            lengths, later = getattr(old, measure), getattr(new, measure)
            if lengths is not None and later is not None:
                yield _compare_lengths(name, measure, lengths, later)


def _compare(column: str, measure: str, texts: tuple[str, str], before: Counts, now: Counts) -> Drift:
    psi, verdict = judge_counts(before, now)
    return Drift(
        column=column,
        measure=measure,
        before=texts[0],
        now=texts[1],
        psi=round(psi, 4),
        total_variation=round(compute_total_variation(before, now), 4),
        verdict=verdict,
    )


def _compare_shares(column: str, measure: str, before: tuple[int, int], now: tuple[int, int]) -> Drift:
    texts = tuple(f"{part / max(whole, 1):.2%}" for part, whole in (before, now))
    counts = [(part, whole - part) for part, whole in (before, now)]
    return _compare(column, measure, (texts[0], texts[1]), *counts)


def _compare_classes(column: str, before: dict[str, int], now: dict[str, int]) -> Drift:
    names = list(dict.fromkeys([*before, *now]))
    counts = [[values.get(name, 0) for name in names] for values in (before, now)]
    return _compare(column, "classes", (_describe_classes(before), _describe_classes(now)), *counts)


def _compare_numbers(column: str, before: Numbers, now: Numbers) -> Drift:
    edges = np.unique([before.quantile(decile) for decile in DECILES])
    counts = before.count_between(edges), now.count_between(edges)
    return _compare(column, "numbers", (_describe_numbers(before), _describe_numbers(now)), *counts)


def _compare_lengths(column: str, measure: str, before: Lengths, now: Lengths) -> Drift:
    starts = _group_bins(before)
    counts = [np.add.reduceat(lengths.by_bin(), starts) for lengths in (before, now)]
    return _compare(column, measure, (_describe_lengths(before), _describe_lengths(now)), *counts)


def _group_bins(lengths: Lengths) -> np.ndarray[Any, Any]:
    """Where groups of bins begin that hold about a tenth of the texts each, as places in EDGES."""
    reached = np.cumsum(lengths.by_bin())
    last = np.searchsorted(reached, np.array(DECILES) * max(lengths.num_texts, 1))
    starts = np.unique(np.concatenate([[0], last + 1]))
    return starts[starts < len(EDGES)]


def _describe_classes(values: dict[str, int]) -> str:
    if not values:
        return "no values"
    name, number = next(iter(values.items()))
    return f"{len(values)} values, most often {_quote(name)} ({number / sum(values.values()):.1%})"


def _describe_numbers(numbers: Numbers) -> str:
    return f"median {numbers.quantile(0.5):.4g}, from {numbers.least:.4g} to {numbers.greatest:.4g}"


def _describe_lengths(lengths: Lengths) -> str:
    return f"median {lengths.quantile(0.5):,}, 95 % up to {lengths.quantile(0.95):,}, longest {lengths.longest:,}"


def _warn_of_shape(report: DriftReport) -> Iterator[str]:
    if report.vanished_columns:
        yield f"gone: {_columns(report.vanished_columns)}."
    if report.new_columns:
        yield f"new: {_columns(report.new_columns)}."
    for name, (old, new) in report.changed_types.items():
        yield f"column {name!r} was {old} and is {new}."
    if report.num_rows * 2 < report.num_rows_before:
        yield f"{report.num_rows:,} rows, less than half of the {report.num_rows_before:,} of before."


def _warn_of_values(report: DriftReport) -> Iterator[str]:
    for name, values in report.new_values.items():
        yield f"column {name!r} has {_values(values, 'new')}."
    for name, values in report.vanished_values.items():
        yield f"column {name!r} has lost {_values(values, '')}."


def _warn_of_many(pairs: Pairs) -> Iterator[str]:
    for name, (old, new) in pairs.items():
        if old.is_categorical and new.values is None and old.type == new.type:
            yield f"column {name!r} had {len(old.values or {})} different values and has too many to count."


def _warn_of_measures(report: DriftReport) -> Iterator[str]:
    for drift in report.measures:
        if drift.verdict in ("shifted", "strongly shifted"):
            where = f"column {drift.column!r}: {drift.measure}" if drift.column else drift.measure
            yield f"{where} {drift.verdict} (PSI {drift.psi:.2f}): {drift.before} before, now {drift.now}."


def _columns(names: Sequence[str]) -> str:
    return f"{'column' if len(names) == 1 else 'columns'} {_list([repr(name) for name in names])}"


def _values(values: dict[str, int], adjective: str) -> str:
    named = [f"{_quote(value)} ({count:,} {'row' if count == 1 else 'rows'})" for value, count in values.items()]
    noun = "value" if len(values) == 1 else "values"
    return f"{len(values)} {adjective} {noun}: {_list(named)}".replace("  ", " ")


def _list(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _quote(value: str) -> str:
    return repr(value if len(value) <= MAX_NAME_CHARACTERS else f"{value[: MAX_NAME_CHARACTERS - 3]}...")
