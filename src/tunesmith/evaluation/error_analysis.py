"""Where a model is wrong: the rows of the highest loss, the classes it takes for each other, what has flipped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.partition import ROW_ID
from tunesmith.evaluation.reliability import Reliability, compute_reliability
from tunesmith.kinds import Examples, find_kind
from tunesmith.kinds.class_metrics import Classified, divide

MAX_ROWS = 50
"""Rows of a table that shows texts; of flips, so many were fixed and so many broken."""
MAX_PAIRS, MAX_CLASSES = 200, 1000
"""Rows of the tables on classes."""
MAX_MATRIX = 12
"""Labels of a confusion matrix; of more, those in the most errors."""
MAX_TEXT = 400
"""Characters of a text in a table; what is longer ends in an ellipsis."""

FIXED, BROKEN = "fixed", "broken"


@dataclass(frozen=True)
class Matrix:
    """How often each of some labels was taken for each.

    Attributes:
        labels: The labels, in id order.
        counts: A row a true label, a column a predicted one.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ErrorTables:
    """What a person looks at to see where a model is wrong. What is of classes is None for a kind without labels.

    Attributes:
        num_rows: Rows, or blocks of a kind that joins rows, that were looked at.
        losses: row_id, text, label and prediction and its probability where there are any, loss in nats; the highest
            first. Where rows are joined to blocks, the text is that of the row which the block begins in.
        confusions: label, prediction, count, share_of_label: errors alone, the most frequent first.
        classes: label, precision, recall, f1, support; the lowest f1 first.
        flips: change (fixed or broken), row_id, text, label, prediction, other_prediction, loss, other_loss; None
            where there is no opponent, too.
        num_flips: All rows that were fixed, and broken.
        matrix: The confusion matrix.
        num_labels: Labels of the model; the matrix may have fewer.
        reliability: Whether the probabilities are what they say.
    """

    num_rows: int
    losses: pa.Table
    confusions: pa.Table | None = None
    classes: pa.Table | None = None
    flips: pa.Table | None = None
    num_flips: dict[str, int] | None = None
    matrix: Matrix | None = None
    num_labels: int = 0
    reliability: Reliability | None = None

    def write(self, folder: Path) -> None:
        """A CSV file a table, and errors.json with the counts and with what was cut."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"highest_losses": self.losses, "confusions": self.confusions, "classes": self.classes}
        for name, table in {**tables, "flips": self.flips}.items():
            if table is not None:
                pa.csv.write_csv(table, folder / f"{name}.csv")
        document = {
            "num_rows": self.num_rows,
            "num_flips": self.num_flips,
            "reliability": None if self.reliability is None else self.reliability.model_dump(mode="json"),
            "limits": {"rows": MAX_ROWS, "pairs": MAX_PAIRS, "classes": MAX_CLASSES, "characters": MAX_TEXT},
        }
        (folder / "errors.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def analyze_errors(
    candidate: pa.Table, other: pa.Table | None, examples: Examples, labels: Sequence[str], rows: ChunkedRows
) -> ErrorTables:
    """Find where a model is wrong.

    Args:
        candidate: Its prediction table.
        other: That of the opponent; None where there is none. If it is not for the same rows, nothing has flipped.
        examples: The kind of task, and its columns.
        labels: The label set in id order, in which the logits of both are.
        rows: The rows that were predicted, with their texts.
    """
    kind = find_kind(examples)
    losses, classified = kind.compute_losses(candidate, labels), kind.classify(candidate, labels)
    worst = np.argsort(-losses, kind="stable")[:MAX_ROWS]
    table = pa.table({ROW_ID: candidate[ROW_ID], "loss": losses})
    if classified is None:
        texts = _read_texts(rows, kind.input_columns(examples), table[ROW_ID].take(worst).to_pylist(), kind.JOINS_ROWS)
        return ErrorTables(candidate.num_rows, _with_texts(table.take(worst), texts))
    for place, name in enumerate(("label", "prediction", "probability")):
        table = table.add_column(place + 1, name, candidate[name])
    aligned = None if other is None else _align(other, candidate)
    flips = None if aligned is None else _find_flips(table, aligned, examples, labels)
    shown = [] if flips is None else flips[0][ROW_ID].to_pylist()
    wanted = [*dict.fromkeys([*table[ROW_ID].take(worst).to_pylist(), *shown])]
    texts = _read_texts(rows, kind.input_columns(examples), wanted, kind.JOINS_ROWS)
    pairs = _count_pairs(classified, labels)
    return ErrorTables(
        num_rows=candidate.num_rows,
        losses=_with_texts(table.take(worst), texts),
        confusions=pairs.slice(0, MAX_PAIRS),
        classes=_measure_classes(classified, labels),
        flips=None if flips is None else _with_texts(flips[0], texts, place=2),
        num_flips=None if flips is None else flips[1],
        matrix=_build_matrix(classified, labels, pairs),
        num_labels=len(labels),
        reliability=compute_reliability(classified),
    )


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """A text of at most so many characters.

    Example:
        >>> shorten("a long story", 6)
        'a lon…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _align(other: pa.Table, candidate: pa.Table) -> pa.Table | None:
    """The other's rows in the candidate's order; None where it did not predict for all of them."""
    places = pc.index_in(candidate[ROW_ID], value_set=other[ROW_ID].combine_chunks())
    return None if places.null_count else other.take(places)


def _find_flips(
    table: pa.Table, other: pa.Table, examples: Examples, labels: Sequence[str]
) -> tuple[pa.Table, dict[str, int]]:
    """The rows that one of two models alone has right, those first whose losses differ most; and how many there are."""
    kind = find_kind(examples)
    theirs, ours = kind.compute_losses(other, labels), table["loss"].to_numpy()
    is_right = pc.equal(table["label"], table["prediction"]).to_numpy()
    was_right = pc.equal(other["label"], other["prediction"]).to_numpy()
    found, counts = [], {}
    for change, is_flip in ((FIXED, is_right & ~was_right), (BROKEN, ~is_right & was_right)):
        places = np.flatnonzero(is_flip)
        counts[change] = len(places)
        chosen = places[np.argsort(-np.abs(ours - theirs)[places], kind="stable")][:MAX_ROWS]
        part = table.select([ROW_ID, "label", "prediction"]).take(chosen)
        part = part.add_column(0, "change", pa.array([change] * len(chosen), pa.string()))
        part = part.append_column("other_prediction", other["prediction"].take(chosen))
        found.append(part.append_column("loss", [ours[chosen]]).append_column("other_loss", [theirs[chosen]]))
    return pa.concat_tables(found), counts


def _read_texts(rows: ChunkedRows, columns: Sequence[str], wanted: Iterable[str], joins_rows: bool) -> dict[str, str]:
    """The texts of some rows, by their id; a pair's two texts stand below each other."""
    owners = {row_id: row_id.rpartition("+")[0] if joins_rows else row_id for row_id in wanted}
    found: dict[str, str] = {}
    value_set = pa.array([*set(owners.values())], pa.string())
    for table in rows.tables([ROW_ID, *columns]):
        some = table.filter(pc.is_in(table[ROW_ID], value_set=value_set))
        texts = zip(*(some[column].to_pylist() for column in columns), strict=True)
        # Cut here, so that long texts are never all in memory.
        found |= {name: _join(parts) for name, parts in zip(some[ROW_ID].to_pylist(), texts, strict=True)}
    return {row_id: found[owner] for row_id, owner in owners.items()}


def _join(parts: Sequence[str]) -> str:
    return "\n".join(shorten(part, MAX_TEXT // len(parts)) for part in parts)


def _with_texts(table: pa.Table, texts: dict[str, str], place: int = 1) -> pa.Table:
    column = pa.array([texts[row_id] for row_id in table[ROW_ID].to_pylist()], pa.string())
    return table.add_column(place, "text", column)


def _count_pairs(classified: Classified, labels: Sequence[str]) -> pa.Table:
    is_wrong = classified.labels != classified.predicted
    codes = classified.labels[is_wrong] * len(labels) + classified.predicted[is_wrong]
    pairs, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    pairs, counts = pairs[order], counts[order]
    support = np.bincount(classified.labels, minlength=len(labels))
    return pa.table(
        {
            "label": _names(pairs // len(labels), labels),
            "prediction": _names(pairs % len(labels), labels),
            "count": counts,
            "share_of_label": counts / support[pairs // len(labels)],
        }
    )


def _measure_classes(classified: Classified, labels: Sequence[str]) -> pa.Table:
    support = np.bincount(classified.labels, minlength=len(labels))
    predicted = np.bincount(classified.predicted, minlength=len(labels))
    hits = np.bincount(classified.labels[classified.labels == classified.predicted], minlength=len(labels))
    f1 = divide(2 * hits, support + predicted)
    known = np.flatnonzero(support + predicted)
    shown = known[np.argsort(f1[known], kind="stable")][:MAX_CLASSES]
    columns = {"precision": divide(hits, predicted), "recall": divide(hits, support), "f1": f1, "support": support}
    return pa.table({"label": _names(shown, labels), **{name: values[shown] for name, values in columns.items()}})


def _build_matrix(classified: Classified, labels: Sequence[str], pairs: pa.Table) -> Matrix:
    chosen = [*range(len(labels))]
    if len(labels) > MAX_MATRIX:
        ids = {label: number for number, label in enumerate(labels)}
        ranked = [ids[name] for pair in zip(*_pair_names(pairs), strict=True) for name in pair]
        chosen = sorted([*dict.fromkeys([*ranked, *chosen])][:MAX_MATRIX])
    counts = [
        tuple(int(np.sum(row == column)) for column in chosen)
        for row in (classified.predicted[classified.labels == true] for true in chosen)
    ]
    return Matrix(tuple(labels[number] for number in chosen), tuple(counts))


def _pair_names(pairs: pa.Table) -> tuple[list[str], list[str]]:
    return pairs["label"].to_pylist(), pairs["prediction"].to_pylist()


def _names(ids: np.ndarray[Any, Any], labels: Sequence[str]) -> pa.Array:
    return pa.array([labels[number] for number in ids], pa.string())
