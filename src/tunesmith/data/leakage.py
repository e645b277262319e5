"""Leakage: rows of different splits that are nearly the same, found and handled as the recipe says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.likes import Likes, find_likes
from tunesmith.data.partition import SPLITS, TEST, TRAIN, VALIDATION, CodeArray
from tunesmith.data.rows import IntArray
from tunesmith.data.shingles import normalize
from tunesmith.errors import DataError
from tunesmith.section import Conflict, Section
from tunesmith.store.ref import Facts

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.65
"""By experiment: it finds 95 % of planted changes of a word in texts of 4 to 60 words, nearly all above 8 words, and of
the pairs that it finds in banking77's questions, 93 % ask the same thing."""
LARGE_ROWS = 250_000
"""Rows up to which leakage is looked for unasked: 10 seconds; a million take one to two minutes."""
LARGE_CHARACTERS = 250_000_000
"""The same in characters: the texts are held in memory, up to three times."""
NO_ROWS: IntArray = np.empty(0, dtype=np.int64)
MAX_EXAMPLES, MAX_SHOWN = 20, 10
MAX_TEXT = 80

NameRows = Callable[[IntArray], Iterable[object]]
"""Positions of rows -> their names."""


class LeakageConfig(Section):
    """What is done about rows of different splits that are nearly the same."""

    policy: Literal["report", "drop", "stop"] | None = None
    """report: only count and show them; drop: leave them out of train, or out of validation where their like is in
    test; stop: end with an error. By default report, up to 250,000 rows."""
    threshold: float = Field(default=DEFAULT_THRESHOLD, ge=0.5, le=1)
    """The least similarity, in [0.5, 1]: shared character trigrams over all of both, case and punctuation aside."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The columns that are compared, each for itself; by default those that the model reads."""

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """A column that is named twice."""
        columns = values.get("columns")
        names = columns if isinstance(columns, list) else []
        for twice in (name for index, name in enumerate(names) if name in names[:index]):
            yield ("columns",), f"names {twice!r} twice; name it once"


class Leaks(NamedTuple):
    """What was found, and what is to be left out.

    Attributes:
        dropped: Positions of the rows to leave out, ascending.
        reason: Why, in words.
        facts: What was found, as JSON values.
    """

    dropped: IntArray
    reason: str
    facts: Facts


def find_leaks(
    rows: ChunkedRows, inputs: Sequence[str], codes: CodeArray, config: LeakageConfig, name_rows: NameRows
) -> Leaks:
    """Look for rows of different splits that are nearly the same, and apply the recipe's policy.

    Args:
        rows: The rows.
        inputs: The columns that the model reads.
        codes: The split of each row, as an index into SPLITS, shape (num_rows,).
        config: What to look for and what to do.
        name_rows: Names rows, for messages.

    Raises:
        DataError: A column is missing, or the policy is to stop and there are leaks.
    """
    reason = f"nearly the same as a row of another split (similarity {config.threshold} or more)"
    columns = _choose_columns(rows, config.columns or inputs)
    texts = _read_texts(rows, columns, is_asked=config.policy is not None)
    if texts is None:
        log.warning("split: too many rows to look for leakage unasked; split.leakage.policy: report looks")
        return Leaks(NO_ROWS, reason, {"is_checked": False})
    likes = find_likes(texts, codes, threshold=config.threshold)
    facts = {"is_checked": True, **_describe(likes, codes, config, columns)}
    facts["examples"] = _show(_choose_examples(likes, codes), rows, codes, columns, name_rows)
    _tell(facts)
    if config.policy == "stop" and len(likes.rows):
        raise DataError(_refuse(facts, config))
    dropped = np.unique(likes.rows[codes[likes.rows] < codes[likes.partners]]) if config.policy == "drop" else NO_ROWS
    return Leaks(dropped, reason, facts)


def _read_texts(rows: ChunkedRows, columns: Sequence[str], *, is_asked: bool) -> list[pa.Array] | None:
    """The columns, normalized; None where there is more than is looked at unasked."""
    if not is_asked and rows.num_rows > LARGE_ROWS:
        return None
    parts: list[list[pa.Array]] = [[pa.array([], pa.large_string())] for _ in columns]
    num_characters = 0
    for table in rows.tables(columns):
        for part, column in zip(parts, table.columns, strict=True):
            part += [normalize(chunk) for chunk in column.chunks]
            num_characters += sum(pc.sum(pc.utf8_length(chunk)).as_py() or 0 for chunk in part[-column.num_chunks :])
        if not is_asked and num_characters > LARGE_CHARACTERS:
            return None
    return [pa.concat_arrays(part) for part in parts]


def _choose_columns(rows: ChunkedRows, columns: Sequence[str]) -> list[str]:
    missing = [column for column in columns if column not in rows.schema.names]
    if missing:
        raise DataError(
            f"split.leakage.columns: there is no column {missing[0]!r}; columns present: "
            f"{', '.join(rows.schema.names)}."
        )
    return list(columns)


def _describe(likes: Likes, codes: CodeArray, config: LeakageConfig, columns: Sequence[str]) -> dict[str, Any]:
    sizes = np.bincount(codes, minlength=len(SPLITS))
    between = []
    for split, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST)):
        mine, theirs = likes.between(codes, split, other), likes.between(codes, other, split)
        between.append(
            {
                "from": SPLITS[split],
                "into": SPLITS[other],
                "num_from": len(mine.rows),
                "num_into": len(theirs.rows),
                "num_into_equal": int(np.count_nonzero(theirs.similarity == 1)),
                "fraction_into": len(theirs.rows) / max(int(sizes[other]), 1),
            }
        )
    return {
        "policy": config.policy or "report",
        "threshold": config.threshold,
        "columns": [*columns],
        "between": between,
    }


def _choose_examples(likes: Likes, codes: CodeArray) -> Likes:
    """The most similar first; at most half of them equal, unless all are."""
    leaking = np.flatnonzero(codes[likes.rows] < codes[likes.partners])
    order = leaking[np.lexsort((likes.rows[leaking], -likes.similarity[leaking]))]
    is_equal = likes.similarity[order] == 1
    others = order[~is_equal][: MAX_EXAMPLES // 2]
    shown = np.concatenate([order[is_equal][: MAX_EXAMPLES - len(others)], others])
    return Likes(likes.rows[shown], likes.partners[shown], likes.similarity[shown])


def _show(
    likes: Likes, rows: ChunkedRows, codes: CodeArray, columns: Sequence[str], name_rows: NameRows
) -> list[dict[str, Any]]:
    places = np.concatenate([likes.rows, likes.partners])
    values = rows.take(places).select(columns).to_pylist()
    sides = [
        {"split": SPLITS[codes[place]], "row_id": str(row_id), "text": _shorten(value.values())}
        for place, row_id, value in zip(places, name_rows(places), values, strict=True)
    ]
    pairs = zip(likes.similarity.tolist(), sides[: len(likes.rows)], sides[len(likes.rows) :], strict=True)
    return [{"similarity": round(similarity, 4), "from": mine, "into": theirs} for similarity, mine, theirs in pairs]


def _shorten(values: Iterable[object]) -> str:
    text = " | ".join(" ".join(str(value).split()) for value in values)
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_TEXT]) + (
        "..." if len(text) > MAX_TEXT else ""
    )


def _tell(facts: Facts) -> None:
    counts = _count_likes(facts)
    if counts:
        log.warning("split: leakage: %s", counts)


def _count_likes(facts: Facts) -> str:
    return "; ".join(_count_into(item) for item in facts["between"] if item["num_into"])


def _count_into(item: Mapping[str, Any]) -> str:
    number = item["num_into"]
    have = "row of {} ({:.1%}) has its like" if number == 1 else "rows of {} ({:.1%}) have their like"
    return f"{number:,} {have.format(item['into'], item['fraction_into'])} in {item['from']}"


def _refuse(facts: Facts, config: LeakageConfig) -> str:
    lines = []
    for example in facts["examples"][:MAX_SHOWN]:
        for side in ("from", "into"):
            row = example[side]
            lead = f"{example['similarity']:.2f}" if side == "from" else "    "
            lines.append(f"  {lead}  {row['split']:<10}  {row['row_id']}  {row['text']}")
    table = "\n".join(lines)
    return (
        f"the splits leak: {_count_likes(facts)} (similarity {config.threshold} or more, split.leakage.policy: stop).\n"
        f"{table}\n"
        "Set split.leakage.policy to drop to leave the rows out of train, split by a group that keeps them together, "
        "or raise split.leakage.threshold if they are not the same."
    )
