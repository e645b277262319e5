"""Hashes of rows on the disk, kept in the chunk cache: a row is hashed once for each purpose.

The hashes of each part lie in a file, and those of some dozen consecutive parts in one more: a million rows are read
from twenty files and not from two hundred. Such a group ends behind a part whose key says so, so what is appended
leaves all groups but the last as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tunesmith.data.rows import HashArray, hash_rows
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key

KIND = "hashes"
SUFFIX = ".u64"
"""Numbers of 64 bits, the most significant byte first."""

GROUP_PARTS = 16
"""Parts of a group on average."""


@dataclass(frozen=True)
class Hashing:
    """What `hash_rows` is asked for.

    Attributes:
        columns: The columns that are hashed.
        purpose: Hashes for different purposes are independent.
        seed: Hashes with different seeds are independent.
        num_bytes: 16 to know a row by its hash, 8 to draw a number for it.
    """

    columns: tuple[str, ...]
    purpose: str
    seed: int = 0
    num_bytes: int = 16

    @cached_property
    def key(self) -> str:
        """Names it, with the code that runs now."""
        return compute_key({**asdict(self), "file": SUFFIX, "code": code_identity(["tunesmith.data.rows"])})

    def hash(self, table: pa.Table) -> HashArray:
        """The hashes of a table's rows."""
        return hash_rows(table, self.columns, purpose=self.purpose, seed=self.seed, num_bytes=self.num_bytes)

    def parse(self, content: bytes) -> HashArray:
        """Hashes from the bytes of their file, shape (num_rows, num_bytes / 8)."""
        return np.frombuffer(content, dtype=">u8").reshape(-1, self.num_bytes // 8)


class Hashed(NamedTuple):
    """Rows that are to be hashed.

    Attributes:
        rows: What they are, for the key.
        load: Fetches them; called only where their hashes are not known.
    """

    rows: Mapping[str, Any]
    load: Callable[[], pa.Table]


def ensure_hashes(parts: Sequence[Hashed], hashing: Hashing, cache: ChunkCache) -> HashArray:
    """The hashes of the rows of consecutive parts as one array; found, or computed.

    Args:
        parts: The rows.
        hashing: What is hashed of them.
        cache: Where hashes are kept.
    """
    keys = [compute_key({"rows": part.rows, "hashing": hashing.key}) for part in parts]
    contents = []
    for group in _cut_groups(keys):
        pairs = [*zip(keys[group], parts[group], strict=True)]

        def write(path: Path, pairs: Sequence[tuple[str, Hashed]] = pairs) -> None:
            path.write_bytes(b"".join(_ensure_part(key, part, hashing, cache) for key, part in pairs))

        is_open = group.stop == len(keys)  # what is appended may belong to it
        if is_open or len(pairs) == 1:
            contents += [_ensure_part(key, part, hashing, cache) for key, part in pairs]
        else:
            group_key = compute_key({"group": keys[group]})
            contents.append(cache.ensure(KIND, group_key, SUFFIX, write).path.read_bytes())
    return hashing.parse(b"".join(contents))


def _ensure_part(key: str, part: Hashed, hashing: Hashing, cache: ChunkCache) -> bytes:
    def write(path: Path) -> None:
        path.write_bytes(hashing.hash(part.load()).tobytes())

    return cache.ensure(KIND, key, SUFFIX, write).path.read_bytes()


def _cut_groups(keys: Sequence[str]) -> Iterator[slice]:
    """Consecutive keys; a group ends behind a key that is a multiple of GROUP_PARTS."""
    start = 0
    for end, key in enumerate(keys, 1):
        if int(key, 16) % GROUP_PARTS == 0 or end == len(keys):
            yield slice(start, end)
            start = end
