"""Splits as the split stage leaves them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from tunesmith.data.chunked import compose
from tunesmith.data.rows import hash_rows
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.ref import Ref


def write_splits(splits: Ref, tables: Mapping[str, pa.Table], cache: ChunkCache) -> None:
    """Write the rows of each split, with a `row_id`, to the artifact's folder."""
    splits.folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        hashes = hash_rows(table, table.column_names, purpose="tunesmith row")

        def gather(positions, table=table):
            return table.take(pa.array(positions))

        compose(hashes, table.schema, gather, cache).write(splits.folder, cache, name)
