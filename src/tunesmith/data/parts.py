"""Parts: consecutive rows of one file, on the disk, that a stage of reading maps one to one.

A part is known by what it is made of, so one that was made before is not made again; its rows are read only where they
are needed. Its numbers count from the part's own beginning: what is inserted before it in the file leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.column_types import ColumnFacts, convert, describe_column
from tunesmith.data.columns import CARRIED, settle_carried
from tunesmith.data.origins import IntArray, Origins, Rows
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts

NUMBER = "\0number"
"""The column with each row's number in its file, counted from the part's first; no file can name a column so."""

PLACE = "\0place"
"""The column with the row that each was made of, in the part that its own was made of."""

SOURCE = "source_name"
"""The column with the name of a row's source, where a recipe has several."""

SUFFIX = ".arrow"

Types = Mapping[str, pa.DataType]


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file.

    Attributes:
        kind: What the chunk cache calls it.
        key: What it is made of.
        facts: How many rows, and of which types.
        make: Writes it.
        label: How messages name its file.
        prefix: How they do in front of a number, such as `reviews.csv:`.
        first: What its numbers count from.
        source: The name of its source, where there are several.
    """

    kind: str
    key: str
    facts: Facts
    make: Callable[[Path], Facts]
    label: str
    prefix: str
    first: int
    source: str | None

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return int(self.facts["num_rows"])

    @cached_property
    def columns(self) -> dict[str, ColumnFacts]:
        """What its columns hold."""
        found = {name: ColumnFacts.from_json(facts) for name, facts in self.facts["columns"].items()}
        if self.source is not None:
            found[SOURCE] = ColumnFacts(types=frozenset({"text"}), numerals=frozenset())
        return found

    def with_content(self, kind: str, content: Mapping[str, Any], cache: ChunkCache, make: MakeRows) -> Part:
        """The part that comes of this one: found, or made.

        Args:
            kind: What the chunk cache calls it.
            content: What is done, besides the rows that it is done with.
            cache: Where parts are kept.
            make: Gives its rows, and facts about them.
        """
        key = compute_key({"kind": kind, "part": self.key, "source": self.source, **content})

        def write(path: Path) -> Facts:
            rows, facts = make()
            return {**write_part(rows, self.first, path), **facts}

        return replace(self, kind=kind, key=key, make=write, facts=ensure_facts(cache, kind, key, write), source=None)


MakeRows = Callable[[], tuple[Rows, Facts]]


def ensure_facts(cache: ChunkCache, kind: str, key: str, make: Callable[[Path], Facts], suffix: str = SUFFIX) -> Facts:
    """The facts of a part that is found, without looking at its rows, or made."""
    chunk = cache.find(kind, key) or cache.put(kind, key, suffix, make)
    return chunk.facts


def write_part(rows: Rows, first: int, path: Path) -> Facts:
    """Write rows of one file, with their numbers counted from `first`; gives what a part knows of them."""
    settled = settle_carried(rows.table)
    table = settled.append_column(NUMBER, pa.array(rows.origins.numbers - first, pa.int64()))
    if rows.origins.places is not None:
        table = table.append_column(PLACE, pa.array(rows.origins.places, pa.int64()))
    table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    columns = {name: describe_column(settled[name]).as_json() for name in settled.column_names}
    return {"num_rows": rows.table.num_rows, "columns": columns}


def load_part(part: Part, cache: ChunkCache, types: Types | None = None) -> Rows:
    """A part's rows, from the disk and not into memory.

    Args:
        part: The part; made again where it is gone or damaged.
        cache: Where parts are kept.
        types: The columns to give it, in this order; by default those that it has.
    """
    table = _read(part, cache)
    numbers = table[NUMBER].to_numpy() + part.first
    table = table.drop_columns([name for name in (NUMBER, PLACE) if name in table.column_names])
    if part.source is not None:
        table = table.append_column(SOURCE, pa.repeat(pa.scalar(part.source, pa.string()), table.num_rows))
    if types is not None:
        table = _convert(table, types)
    return Rows(table, Origins((part.prefix,), np.zeros(len(numbers), dtype=np.int32), numbers))


def load_places(part: Part, cache: ChunkCache) -> IntArray:
    """Which row of the part that it was made of each row of a part was made of, shape (num_rows,)."""
    places: IntArray = _read(part, cache)[PLACE].to_numpy()
    return places


def _read(part: Part, cache: ChunkCache) -> pa.Table:
    chunk = cache.ensure(part.kind, part.key, SUFFIX, part.make)
    with pa.memory_map(str(chunk.path)) as file:
        return pa.ipc.open_file(file).read_all()


def merge_types(parts: Sequence[Part], texts: frozenset[str] = frozenset()) -> dict[str, pa.DataType]:
    """The type of each column over all parts, in the order in which columns appear; a missing one is null there.

    Args:
        parts: The parts.
        texts: Columns whose text stays text, even where it could be read as numbers.
    """
    facts: dict[str, dict[str | None, ColumnFacts]] = {}
    for part in parts:
        for name, found in part.columns.items():
            of_source = facts.setdefault(name, {})
            of_source[part.source] = found.merge(of_source.get(part.source, ColumnFacts()))
    return {name: decide_type(found.values(), is_text=name in texts) for name, found in facts.items()}


def decide_type(facts: Collection[ColumnFacts], *, is_text: bool) -> pa.DataType:
    """The type of a column.

    Args:
        facts: What each source has in it.
        is_text: Whether its text stays text, even where it could be read as numbers.
    """
    together = reduce(ColumnFacts.merge, facts)
    if is_text and together.types == {"text"}:
        return pa.string()
    kind = together.decide()
    if kind != CARRIED:
        return kind
    # One source may write the numbers as text, as csv does, and another one as numbers.
    return reduce(ColumnFacts.merge, (found.settle() for found in facts)).decide()


def describe_types(types: Types) -> list[list[str]]:
    """Types as JSON values, for keys."""
    return [[name, str(kind)] for name, kind in types.items()]


def keep_rows(part: Part, kept: IntArray, cache: ChunkCache) -> Part:
    """A part with some of its rows; the part itself where all are kept.

    Args:
        part: The part.
        kept: Row numbers in it, ascending.
        cache: Where parts are kept.
    """
    if len(kept) == part.num_rows:
        return part
    plain = replace(part, source=None)  # the name of the source is added when the rows are loaded
    content = {"rows": kept.tolist(), "code": code_identity([__name__])}
    rows = plain.with_content("kept", content, cache, lambda: (load_part(plain, cache).take(kept), {}))
    return replace(rows, source=part.source)


def _convert(table: pa.Table, types: Types) -> pa.Table:
    columns = {}
    for name, kind in types.items():
        has_column = name in table.column_names
        columns[name] = convert(table[name], kind) if has_column else pa.nulls(table.num_rows, kind)
    return pa.table(columns) if columns else table
