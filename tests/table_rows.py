"""All rows, as a kind is given them, of a table in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class TableRows:
    table: pa.Table

    @property
    def num_rows(self) -> int:
        return self.table.num_rows

    def tables(self, columns):
        """The columns, in two parts."""
        half = self.num_rows // 2
        whole = self.read(columns)
        yield from (whole.slice(0, half), whole.slice(half))

    def read(self, columns: Sequence[str]) -> pa.Table:
        return self.table.select(list(columns))
