"""The chunk cache: files under keys of what they are made of, each with a sidecar that says what its bytes must be.

chunks/<kind>/<key[:2]>/<key><suffix>   the bytes
chunks/<kind>/<key[:2]>/<key>.json      the sidecar, written last: sha256, checksum, size, facts

Nothing is synced: a chunk is verified when it is used, and what does not match is set aside and made again. That is a
matter of damage, not of attack, so a checksum of 128 bits does it, which is computed more than ten times as fast as the
sha256 under which the bytes are known in artifacts and on S3.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.store.aside import open_aside
from tunesmith.store.hashed import recall_sha256, remember_sha256
from tunesmith.store.keys import file_checksum, file_sha256
from tunesmith.store.ref import Facts

log = logging.getLogger(__name__)

SIDECAR = ".json"
WriteChunk = Callable[[Path], Facts | None]
"""Writes a chunk's bytes to the path that it is given, and returns small JSON values about it."""


@dataclass(frozen=True)
class Chunk:
    """A file of the chunk cache.

    Attributes:
        kind: What it holds, such as `mapped`.
        key: What it is made of, as a hash.
        path: Where its bytes lie.
        sha256: What they must be, as 64 hex digits.
        checksum: The same as 32 hex digits of xxh3.
        size_bytes: How many they must be.
        facts: Small JSON values about it.
    """

    kind: str
    key: str
    path: Path
    sha256: str
    checksum: str
    size_bytes: int
    facts: Facts

    @property
    def sidecar(self) -> bytes:
        """What is written beside it."""
        names = [name for name in Sidecar.model_fields if name != "file"]
        value = {"file": self.path.name, **{name: getattr(self, name) for name in names}}
        return json.dumps(value, ensure_ascii=False).encode()


class Sidecar(BaseModel):
    """What is written beside a chunk."""

    model_config = ConfigDict(frozen=True)

    file: str
    sha256: str
    checksum: str
    size_bytes: int
    facts: dict[str, object]

    def describe(self, kind: str, key: str, folder: Path) -> Chunk:
        """The chunk that it lies beside."""
        return Chunk(kind, key, folder / self.file, self.sha256, self.checksum, self.size_bytes, self.facts)


class ChunkCache:
    """Chunks in a local folder.

    Args:
        root: The folder `chunks` of a store; what is damaged and what is being written lie beside it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, key: str) -> Chunk | None:
        """The chunk under a key, as its sidecar says; its bytes are not looked at."""
        folder = self._folder(kind, key)
        try:
            sidecar = Sidecar.model_validate_json((folder / f"{key}{SIDECAR}").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return sidecar.describe(kind, key, folder)

    def open(self, chunk: Chunk) -> Path | None:
        """The verified bytes of a chunk; None where they are gone or damaged, which is then set aside.

        A process hashes a file once, until its time or size changes.
        """
        try:
            seen = chunk.path.stat()
            if seen.st_size == chunk.size_bytes and _is_intact(chunk, seen):
                return chunk.path
        except FileNotFoundError:
            return None
        self._set_aside(chunk, seen)
        return None

    def put(self, kind: str, key: str, suffix: str, write: WriteChunk) -> Chunk:
        """Write a chunk; of two writers of one key the last one's bytes stand, and both succeed.

        Args:
            kind: What it holds.
            key: What it is made of.
            suffix: What its file's name ends with, such as `.parquet`.
            write: Writes it.
        """
        if suffix == SIDECAR:
            raise ValueError(f"a chunk's suffix cannot be {SIDECAR!r}, which is the sidecar's")
        with open_aside(self.root.parent) as folder:
            aside = folder / f"chunk{suffix}"
            facts = dict(write(aside) or {})
            return self._publish(kind, key, suffix, aside, facts)

    def ensure(self, kind: str, key: str, suffix: str, write: WriteChunk) -> Chunk:
        """The chunk under a key: found and verified, or written."""
        chunk = self.find(kind, key)
        if chunk is not None and self.open(chunk) is not None:
            return chunk
        return self.put(kind, key, suffix, write)

    def link(self, path: Path, target: Path) -> None:
        """Put a chunk's file at `target` too: the same bytes on the disk, or a copy where that is impossible.

        Args:
            path: The file of an opened chunk, or of one that was just put.
            target: A new file that nobody writes to afterwards.
        """
        try:
            target.hardlink_to(path)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target)

    def _publish(self, kind: str, key: str, suffix: str, aside: Path, facts: dict[str, object]) -> Chunk:
        folder = self._folder(kind, key)
        seen, sha256, checksum = aside.stat(), file_sha256(aside), file_checksum(aside)
        chunk = Chunk(kind, key, folder / f"{key}{suffix}", sha256, checksum, seen.st_size, facts)
        folder.mkdir(parents=True, exist_ok=True)
        aside_sidecar = aside.with_name("sidecar")
        aside_sidecar.write_bytes(chunk.sidecar)
        remember_sha256(seen, sha256)
        aside.replace(chunk.path)
        aside_sidecar.replace(folder / f"{key}{SIDECAR}")
        return chunk

    def _set_aside(self, chunk: Chunk, seen: os.stat_result) -> None:
        target = self.root.parent / "damaged" / f"{chunk.kind}-{chunk.path.stem}-{time.time_ns()}{chunk.path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not os.path.samestat(chunk.path.stat(), seen):
                return  # another process made it again meanwhile
            chunk.path.rename(target)
        except FileNotFoundError:
            return  # another process set it aside first
        log.warning("chunk %s %s does not match its sha256; set aside in %s", chunk.kind, chunk.key, target)

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2]


def _is_intact(chunk: Chunk, seen: os.stat_result) -> bool:
    known = recall_sha256(seen)
    if known is not None:
        return known == chunk.sha256
    if file_checksum(chunk.path) != chunk.checksum:
        return False
    remember_sha256(seen, chunk.sha256)
    return True
