"""Hashes of rows on the disk, kept in the chunk cache: a row is hashed once for each purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from tunesmith.data.rows import HashArray, hash_rows
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts

NUM_THREADS = 2

T = TypeVar("T")


def ensure_hashes(
    rows: Mapping[str, Any],
    columns: Sequence[str],
    load: Callable[[], pa.Table],
    cache: ChunkCache,
    *,
    purpose: str,
    seed: int = 0,
    num_bytes: int = 16,
) -> HashArray:
    """What `hash_rows` gives for some rows; found, or computed.

    Args:
        rows: What the rows are, for the key.
        columns: The columns that are hashed.
        load: Fetches the rows; called only where their hashes are not known.
        cache: Where hashes are kept.
        purpose: Hashes for different purposes are independent.
        seed: Hashes with different seeds are independent.
        num_bytes: 16 to know a row by its hash, 8 to draw a number for it.
    """
    asked = {"rows": dict(rows), "columns": [*columns], "purpose": purpose, "seed": seed, "bytes": num_bytes}

    def write(path: Path) -> Facts:
        with path.open("wb") as file:
            np.save(file, hash_rows(load(), columns, purpose=purpose, seed=seed, num_bytes=num_bytes))
        return {}

    key = compute_key({**asked, "code": code_identity(["tunesmith.data.rows"])})
    hashes: HashArray = np.load(cache.ensure("hashes", key, ".npy", write).path)
    return hashes


def map_hashes(hash_part: Callable[[T], HashArray], parts: Sequence[T]) -> HashArray:
    """The hashes of consecutive parts of the rows as one array; several parts are verified and read at a time."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        found = [*pool.map(hash_part, parts)]
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=">u8")
