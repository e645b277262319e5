"""What encoding did to the rows of a split: how many were too long, and what that cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import DataError
from tunesmith.kinds.limit import Limit
from tunesmith.store.ref import Facts

NAMES = (
    "num_rows",
    "num_examples",
    "num_tokens",
    "num_tokens_read",
    "num_overflowing",
    "num_truncated",
    "num_dropped",
    "num_tokens_lost",
)
"""The numbers that add up over chunks, as a kind counts them."""
MAX_NAMED = 5
"""Rows that an error names before it only counts them."""


@dataclass(frozen=True)
class Counts:
    """What encoding did to the rows of a split.

    Attributes:
        numbers: The sum over all chunks, for each of NAMES.
        max_id: The largest token id.
        too_long: The first rows that are longer than the limit: row id and tokens.
    """

    numbers: Mapping[str, int]
    max_id: int
    too_long: tuple[tuple[str, int], ...]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]


def add_up(chunks: Iterable[Facts]) -> Counts:
    """The facts of all chunks of a split, together."""
    facts = list(chunks)
    too_long = [(str(row), int(number)) for chunk in facts for row, number in chunk["too_long"]]
    return Counts(
        numbers={name: sum(chunk[name] for chunk in facts) for name in NAMES},
        max_id=max((chunk["max_id"] for chunk in facts), default=0),
        too_long=tuple(too_long[:MAX_NAMED]),
    )


def as_facts(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Every number by split, and the shares of rows and of tokens that were lost, cut off or left out."""
    facts: dict[str, Any] = {name: {split: count[name] for split, count in counts.items()} for name in NAMES}
    facts["lost_row_fraction"] = {
        split: _divide(count["num_truncated"] + count["num_dropped"], count["num_rows"])
        for split, count in counts.items()
    }
    facts["lost_token_fraction"] = {
        split: _divide(count["num_tokens_lost"], count["num_tokens_read"]) for split, count in counts.items()
    }
    return facts


def describe(counts: Mapping[str, Counts], limit: Limit) -> str:
    """What encoding did, in one line."""
    total = {name: sum(count[name] for count in counts.values()) for name in NAMES}
    fates = {
        "truncate": f"{total['num_truncated']:,} of them cut at {limit.max_length} tokens",
        "window": f"of {total['num_rows']:,} rows, {total['num_overflowing']:,} of them in windows of "
        f"{limit.max_length} tokens",
        "drop": f"{total['num_dropped']:,} more rows dropped, longer than {limit.max_length} tokens",
        "stop": f"none longer than {limit.max_length} tokens",
    }
    return f"{total['num_examples']:,} examples, {fates[limit.on_overflow]}"


def refuse_too_long(counts: Mapping[str, Counts], limit: Limit) -> None:
    """Stop where the recipe says so and a row is longer than the limit.

    Raises:
        DataError: Names the first rows of each split, how many there are, and the choices.
    """
    number = sum(count["num_overflowing"] for count in counts.values())
    if limit.on_overflow != "stop" or not number:
        return
    total = sum(count["num_rows"] for count in counts.values())
    splits = "; ".join(_name_rows(split, count) for split, count in counts.items() if count.too_long)
    raise DataError(
        f"{number:,} of {total:,} rows are longer than tokenize.max_length, {limit.max_length} tokens: {splits}. "
        "Raise tokenize.max_length, or set tokenize.on_overflow to truncate (their end is cut), window (each becomes "
        "several examples) or drop (they leave)."
    )


def check_not_empty(split: str, count: Counts, limit: Limit) -> None:
    """Refuse a split without an example.

    Raises:
        DataError: Says where its rows have gone.
    """
    if count["num_examples"]:
        return
    if count["num_dropped"]:
        raise DataError(
            f"all {count['num_rows']:,} rows of the {split} split are longer than tokenize.max_length, "
            f"{limit.max_length} tokens, and on_overflow is drop. Raise max_length, or choose truncate or window."
        )
    raise DataError(
        f"the {split} split has {count['num_rows']} rows, too few for a single example. "
        f"Add data, or give the {split} split a larger fraction in the recipe's split section."
    )


def _name_rows(split: str, count: Counts) -> str:
    named = ", ".join(f"row {row} ({number:,} tokens)" for row, number in count.too_long)
    more = count["num_overflowing"] - len(count.too_long)
    return f"{split}: {named}{f' and {more:,} more' if more else ''}"


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
