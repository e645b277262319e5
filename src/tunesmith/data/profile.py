"""The profile of a snapshot: what its columns hold, put together from what is known of each chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.data.lengths import Lengths, measure_texts, merge_lengths
from tunesmith.data.numbers import Numbers, measure_numbers, merge_numbers
from tunesmith.data.rows import HashArray, number_equals
from tunesmith.store.ref import Facts

PROFILE = "profile.json"
"""The file of a snapshot's profile."""

MAX_VALUES = 512
"""Of a column with more different values, the values are not counted."""
MAX_VALUE_CHARACTERS = 8192
"""Nor of one whose different values in a chunk are longer than this together: its facts are to stay small."""
LEAST_REPEATS = 2
"""How often a value of a class appears on average, at the least."""
NUM_EXAMPLES = 3
"""Rows that a chunk gives as examples."""
MAX_EXAMPLES = 5
MAX_EXAMPLE_CHARACTERS = 160


class ColumnProfile(BaseModel):
    """What a column holds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """Its canonical type."""
    num_nulls: int
    """Rows without a value."""
    num_values: int
    """Rows with one."""
    values: dict[str, int] | None
    """Value as text -> rows, the most frequent first; None where there are too many different ones to count."""
    numbers: Numbers | None
    """Limits and quantiles, of a column of numbers."""
    characters: Lengths | None
    """Lengths in characters, of a column of text."""
    words: Lengths | None
    """Lengths in words, of a column of text."""

    @property
    def is_categorical(self) -> bool:
        """Whether its values repeat as those of a class do."""
        return self.values is not None and 0 < len(self.values) * LEAST_REPEATS <= self.num_values


class Truncation(BaseModel):
    """What encoding cut off or left out, over all splits."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_rows: int
    """Rows that were encoded."""
    num_lost: int
    """Rows of these that were cut or dropped, being too long."""
    num_tokens: int
    """Tokens that they have."""
    num_tokens_lost: int
    """Tokens of these that were cut off."""

    @classmethod
    def from_facts(cls, facts: Facts) -> Truncation:
        """What the facts of an encode artifact say."""
        total = {name: sum(counts.values()) for name, counts in facts.items() if name.startswith("num_")}
        return cls(
            num_rows=total["num_rows"],
            num_lost=total["num_truncated"] + total["num_dropped"],
            num_tokens=total["num_tokens_read"],
            num_tokens_lost=total["num_tokens_lost"],
        )


class Profile(BaseModel):
    """What a snapshot holds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_rows: int
    """Its rows."""
    num_duplicates: int | None
    """Rows that are equal to an earlier one in every column; None where nobody counted."""
    columns: dict[str, ColumnProfile]
    """Its columns by name."""
    examples: tuple[dict[str, Any], ...]
    """Some rows, long texts cut."""
    truncation: Truncation | None = None
    """What encoding cut off, where that is known."""


def profile_part(table: pa.Table) -> dict[str, Any]:
    """What is to be known of a chunk for the profile of all: a few KB of JSON values.

    Args:
        table: Some rows, of canonical types.
    """
    return {
        "num_rows": table.num_rows,
        "columns": {name: _describe_column(table[name]) for name in table.column_names},
        "examples": [_shorten_row(row) for row in table.slice(0, NUM_EXAMPLES).to_pylist()],
    }


def merge_profiles(parts: Iterable[Mapping[str, Any]], *, num_duplicates: int | None = None) -> Profile:
    """The profile of all chunks together.

    Args:
        parts: What `profile_part` gave for each, in their order.
        num_duplicates: What `count_duplicates` gave for all rows.
    """
    chunks = list(parts)
    names = [*chunks[0]["columns"]] if chunks else []
    return Profile(
        num_rows=sum(chunk["num_rows"] for chunk in chunks),
        num_duplicates=num_duplicates,
        columns={name: _merge_columns([chunk["columns"][name] for chunk in chunks]) for name in names},
        examples=_choose_examples([chunk["examples"] for chunk in chunks]),
    )


def count_duplicates(hashes: HashArray) -> int:
    """How many rows are equal to an earlier one.

    Args:
        hashes: What `hash_rows` gave for all columns.
    """
    return int(np.count_nonzero(number_equals(hashes)))


def parse_profile(content: bytes | None) -> Profile | None:
    """The profile that a snapshot's file holds; None where there is none, or one of another time's shape."""
    try:
        return None if content is None else Profile.model_validate_json(content)
    except ValidationError:
        return None


def read_profile(folder: Path) -> Profile | None:
    """The profile in a snapshot's folder, or None."""
    path = folder / PROFILE
    return parse_profile(path.read_bytes() if path.is_file() else None)


def _describe_column(column: pa.ChunkedArray) -> dict[str, Any]:
    kind = column.type
    values = pa.concat_arrays([*column.drop_null().chunks, pa.array([], kind)])
    facts: dict[str, Any] = {"type": str(kind), "nulls": column.null_count, "n": len(values)}
    if not pa.types.is_floating(kind):
        facts["values"] = _count_values(values)
    if pa.types.is_string(kind):
        facts |= measure_texts(values)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        facts["numbers"] = measure_numbers(values)
    return facts


def _count_values(values: pa.Array) -> list[list[Any]] | None:
    if pc.count_distinct(values[: 2 * MAX_VALUES]).as_py() > MAX_VALUES:  # most text shows it in its first rows
        return None
    counted = pc.value_counts(values)
    if len(counted) > MAX_VALUES:
        return None
    names = counted.field("values").cast(pa.string())
    if (pc.sum(pc.utf8_length(names)).as_py() or 0) > MAX_VALUE_CHARACTERS:
        return None
    return [list(pair) for pair in zip(names.to_pylist(), counted.field("counts").to_pylist(), strict=True)]


def _merge_columns(parts: Sequence[Mapping[str, Any]]) -> ColumnProfile:
    first = parts[0]
    return ColumnProfile(
        type=first["type"],
        num_nulls=sum(part["nulls"] for part in parts),
        num_values=sum(part["n"] for part in parts),
        values=_merge_values([part.get("values") for part in parts]),
        numbers=merge_numbers(part["numbers"] for part in parts) if "numbers" in first else None,
        characters=merge_lengths(part["characters"] for part in parts) if "characters" in first else None,
        words=merge_lengths(part["words"] for part in parts) if "words" in first else None,
    )


def _merge_values(parts: Sequence[Sequence[Sequence[Any]] | None]) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for part in parts:
        if part is None:
            return None
        for value, number in part:
            total[value] += number
        if len(total) > MAX_VALUES:
            return None
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _choose_examples(parts: Sequence[Sequence[dict[str, Any]]]) -> tuple[dict[str, Any], ...]:
    """Rows of parts that are spread over all, so that not only the first source is seen."""
    full = [part for part in parts if part]
    if len(full) < MAX_EXAMPLES:
        return tuple([row for part in full for row in part][:MAX_EXAMPLES])
    return tuple(full[place * len(full) // MAX_EXAMPLES][0] for place in range(MAX_EXAMPLES))


def _shorten_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _shorten(value) for name, value in row.items()}


def _shorten(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > MAX_EXAMPLE_CHARACTERS:
        return value[: MAX_EXAMPLE_CHARACTERS - 3] + "..."
    return value
