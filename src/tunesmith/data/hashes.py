"""Hashes of rows on the disk, kept in the chunk cache: a row is hashed once for each purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.rows import HashArray, hash_rows
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key

SUFFIX = ".u64"
"""Numbers of 64 bits, the most significant byte first."""


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

    def write(path: Path) -> None:
        path.write_bytes(hash_rows(load(), columns, purpose=purpose, seed=seed, num_bytes=num_bytes).tobytes())

    key = compute_key({**asked, "file": SUFFIX, "code": _code()})
    content = cache.ensure("hashes", key, SUFFIX, write).path.read_bytes()
    return np.frombuffer(content, dtype=">u8").reshape(-1, num_bytes // 8)


def join_hashes(parts: Sequence[HashArray]) -> HashArray:
    """The hashes of consecutive rows as one array."""
    return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=">u8")


@remember
def _code() -> Mapping[str, str]:
    return code_identity(["tunesmith.data.rows"])
