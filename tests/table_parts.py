"""Parts made of tables in memory, for tests of what is done with parts."""

from itertools import pairwise

import numpy as np
import pyarrow as pa

from tunesmith.data.origins import Origins, Rows
from tunesmith.data.parts import Part, ensure_facts, write_part
from tunesmith.data.rows import hash_rows
from tunesmith.store.keys import compute_key


def part_of(table: pa.Table, cache, *, first=1, label="rows.csv", source=None) -> Part:
    numbers = np.arange(first, first + table.num_rows)
    rows = Rows(table, Origins((f"{label}:",), np.zeros(table.num_rows, dtype=np.int32), numbers))
    digest = hash_rows(table, table.column_names, purpose="test").tobytes().hex()
    key = compute_key([digest, str(table.schema)])

    def make(path):
        return write_part(rows, first, path)

    facts = ensure_facts(cache, "raw", key, make)
    return Part("raw", key, facts, make, label, f"{label}:", first, source)


def parts_of(table: pa.Table, cache, *cuts: int) -> tuple[Part, ...]:
    """A table as parts, cut at some rows."""
    bounds = [0, *sorted(cuts), table.num_rows]
    return tuple(part_of(table.slice(start, end - start), cache, first=start + 1) for start, end in pairwise(bounds))
