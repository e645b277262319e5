"""What is known of the beginning of a file: where a file has only grown, only what is new is read.

Only a hint: it is believed when the bytes up to there are, by their sha256, those that were read then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith.data.contents import can_skip, count_mark
from tunesmith.data.files import SourceFile
from tunesmith.data.prefixes import hash_prefix
from tunesmith.data.segments import Resume
from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.keys import compute_key

KIND = "beginnings"
RAW = "raw"


class Found(NamedTuple):
    """A part of a file in the cache, and the number of its first line or row."""

    chunk: Chunk
    first: int


class Beginning(NamedTuple):
    """The parts of the beginning of a file, and where it goes on behind them."""

    found: list[Found]
    resume: Resume | None


def recall_beginning(file: SourceFile, encoding: str, identity: Mapping[str, Any], cache: ChunkCache) -> Beginning:
    """The beginning of a file that was read before, as far as it is the same; an empty one where it is not.

    Args:
        file: The file, as it is now.
        encoding: What it is written in.
        identity: How it is read, for the key.
        cache: Where parts are kept.
    """
    nothing = Beginning([], None)
    record = _open_record(file, identity, cache) if can_skip(file, encoding) else None
    if record is None or record["end"] > file.size_bytes:
        return nothing
    found = recall_parts(record["parts"], cache)
    if found is None:
        return nothing
    if _hash_text(file, record["end"]) != record["sha256"]:
        return nothing
    header = record["header"]
    resume = Resume(record["end"], record["line"], None if header is None else tuple(header))
    return Beginning(found, resume)


def remember_beginning(
    beginning: Beginning, file: SourceFile, encoding: str, identity: Mapping[str, Any], cache: ChunkCache
) -> None:
    """Keep what is known of a file's beginning, for when it has grown."""
    found, resume = beginning
    if resume is None or not can_skip(file, encoding):
        return
    record = {**resume._asdict(), "parts": list_parts(found), "sha256": _hash_text(file, resume.end)}

    def write(path: Path) -> None:
        path.write_text(json.dumps(record), encoding="utf-8")

    cache.put(KIND, _key(file, identity), ".txt", write)


def list_parts(found: Sequence[Found]) -> list[list[Any]]:
    """Parts as JSON values."""
    return [[item.chunk.key, item.first] for item in found]


def recall_parts(listed: Sequence[Sequence[Any]], cache: ChunkCache) -> list[Found] | None:
    """The parts that `list_parts` gave; None where one is not in the cache any more."""
    found = [Found(chunk, first) for key, first in listed if (chunk := cache.find(RAW, key)) is not None]
    return found if len(found) == len(listed) else None


def _open_record(file: SourceFile, identity: Mapping[str, Any], cache: ChunkCache) -> dict[str, Any] | None:
    chunk = cache.find(KIND, _key(file, identity))
    path = None if chunk is None else cache.open(chunk)
    if path is None:
        return None
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def _hash_text(file: SourceFile, end: int) -> str:
    """The sha256 of the file up to the byte `end` of its text."""
    return hash_prefix(file.path, count_mark(file) + end)


def _key(file: SourceFile, identity: Mapping[str, Any]) -> str:
    return compute_key({"place": file.place, **identity})
