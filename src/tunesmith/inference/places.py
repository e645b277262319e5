"""Where shards lie: a folder of this machine, or an address on S3. A file appears whole in either, or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunesmith.store.keys import file_sha256
from tunesmith.store.s3 import S3Client, split_uri
from tunesmith.store.s3_errors import DamagedObject
from tunesmith.store.sealed import write_bytes_atomically

ASIDE = ".aside-"
"""How the name of a file begins that is being written."""


class Place(Protocol):
    """A flat set of files, by name; a name may hold one folder, such as `_shards/run.json`."""

    def list_names(self) -> list[str]:
        """The names of all files, sorted."""

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step."""

    def publish(self, path: Path, name: str, sha256: str) -> None:
        """Make a copy of a file appear in one step, its bytes on the disk."""

    def is_intact(self, name: str, sha256: str) -> bool:
        """Whether the file is there, and every byte of it as it was."""

    def set_aside(self, name: str) -> str:
        """Rename a damaged file, so that its name is free; returns where it is now."""

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""


@dataclass(frozen=True)
class FolderPlace:
    """A folder of this machine.

    Attributes:
        folder: Made when the first file is written.
    """

    folder: Path

    def list_names(self) -> list[str]:
        """The names of all files, sorted, without what a killed run was writing; that is deleted."""
        for path in self.folder.glob(f"{ASIDE}*"):
            path.unlink(missing_ok=True)
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step."""
        write_bytes_atomically(self.folder / name, content)

    def publish(self, path: Path, name: str, sha256: str) -> None:
        """Copy a file beside its place, sync it, and rename it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f"{ASIDE}{uuid.uuid4().hex}"
        try:
            with path.open("rb") as source, aside.open("wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            aside.replace(self.folder / name)
        finally:
            aside.unlink(missing_ok=True)

    def is_intact(self, name: str, sha256: str) -> bool:
        """Whether the file is there, and every byte of it as it was."""
        path = self.folder / name
        return path.is_file() and file_sha256(path) == sha256

    def set_aside(self, name: str) -> str:
        """Rename a damaged file; returns its path, or what is missing."""
        path, damaged = self.folder / name, self.folder / f"_damaged-{uuid.uuid4().hex[:8]}-{name}"
        if not path.is_file():
            return "gone"
        path.rename(damaged)
        return f"kept as {damaged}"

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""
        (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class S3Place:
    """An address on S3.

    Attributes:
        uri: `s3://bucket/folder`, without a slash at its end.
        client: A connection to the server.
        scratch: A folder of this machine, where an object is looked at.
    """

    uri: str
    client: S3Client
    scratch: Path

    def list_names(self) -> list[str]:
        """The names of all objects, sorted."""
        prefix = split_uri(f"{self.uri}/")[1]
        return sorted(key.removeprefix(prefix) for key in self.client.list_keys(f"{self.uri}/"))

    def read(self, name: str) -> bytes | None:
        """A small object; None where there is none."""
        return self.client.read_bytes(f"{self.uri}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a small object."""
        self.client.put(f"{self.uri}/{name}", content)

    def publish(self, path: Path, name: str, sha256: str) -> None:
        """Write an object in one step, and verify what the server got."""
        self.client.upload(path, f"{self.uri}/{name}", sha256)

    def is_intact(self, name: str, sha256: str) -> bool:
        """Whether the object is there, and every byte of it as it was: it is read."""
        if not self.client.exists(f"{self.uri}/{name}"):
            return False
        self.scratch.mkdir(parents=True, exist_ok=True)
        copy = self.scratch / uuid.uuid4().hex
        try:
            self.client.download(self.client.stat(f"{self.uri}/{name}"), copy, sha256)
        except DamagedObject:
            return False
        finally:
            copy.unlink(missing_ok=True)
        return True

    def set_aside(self, name: str) -> str:
        """Copy a damaged object to another name, and delete it; returns where it is now."""
        uri, damaged = f"{self.uri}/{name}", f"{self.uri}/_damaged-{uuid.uuid4().hex[:8]}-{name}"
        if not self.client.exists(uri):
            return "gone"
        self.client.copy(uri, damaged)
        self.client.delete(uri)
        return f"kept as {damaged}"

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        self.client.delete(f"{self.uri}/{name}")
