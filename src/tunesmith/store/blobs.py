"""Blobs: files on S3 under the sha256 of their bytes, so that a blob is written once and can always be verified."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunesmith.errors import UserError
from tunesmith.store.s3 import S3Client, S3Object
from tunesmith.store.s3_errors import DamagedObject

MAX_AT_ONCE = 8
SMALL_BYTES = 2**20
"""What is smaller is written without asking whether it is there already."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Blob:
    """A local file and what its bytes are, or must become.

    Attributes:
        path: The local file.
        sha256: Of its bytes, as 64 hex digits.
        size_bytes: Its size.
    """

    path: Path
    sha256: str
    size_bytes: int


class DamagedBlob(Exception):
    """A blob is gone, or its bytes are not the ones of its name."""

    def __init__(self, sha256: str, reason: str) -> None:
        self.sha256 = sha256
        super().__init__(reason)


class Blobs:
    """The blobs of a store on S3.

    Args:
        client: The connection.
        uri: The store's uri.
    """

    def __init__(self, client: S3Client, uri: str) -> None:
        self.client = client
        self.uri = uri
        self._known: set[str] = set()

    def fetch(self, blobs: Sequence[Blob]) -> None:
        """Download and verify blobs, several at once.

        Raises:
            DamagedBlob: One is gone or wrong.
        """
        in_parallel(self._fetch, blobs)

    def share(self, blobs: Iterable[Blob]) -> None:
        """Upload the blobs that are not there yet, several at once."""
        missing = {blob.sha256: blob for blob in blobs if blob.sha256 not in self._known}
        in_parallel(self._share, list(missing.values()))

    def set_aside(self, sha256: str) -> None:
        """Keep a damaged blob under `damaged/`, and make room for the right one."""
        self._known.discard(sha256)
        self.client.copy(self._place(sha256), f"{self.uri}/damaged/{sha256}-{time.time_ns()}")
        self.client.delete(self._place(sha256))

    def _fetch(self, blob: Blob) -> None:
        fetch_blob(self.client, self._place(blob.sha256), blob)
        self._known.add(blob.sha256)

    def _share(self, blob: Blob) -> None:
        place = self._place(blob.sha256)
        if blob.size_bytes < SMALL_BYTES or not self.client.exists(place, blob.size_bytes):
            self.client.upload(blob.path, place, blob.sha256)
        self._known.add(blob.sha256)

    def _place(self, sha256: str) -> str:
        return f"{self.uri}/blobs/{sha256}"


def fetch_blob(client: S3Client, place: str, blob: Blob) -> None:
    """Download and verify one file.

    Args:
        client: The connection.
        place: The uri of the object that holds its bytes.
        blob: Where it goes, and what it must be.

    Raises:
        DamagedBlob: It is gone or wrong.
    """
    blob.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        client.download(S3Object(place, "", blob.size_bytes), blob.path, blob.sha256)
    except DamagedObject as error:
        raise DamagedBlob(blob.sha256, str(error)) from error
    except UserError as error:
        if client.exists(place, blob.size_bytes):
            raise
        raise DamagedBlob(blob.sha256, f"{place} is gone, or has another size") from error


def in_parallel(function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call a function on every item, several at once; the first error is raised once all have ended."""
    if len(items) == 1:
        function(items[0])
    elif items:
        with ThreadPoolExecutor(min(MAX_AT_ONCE, len(items))) as pool:
            list(pool.map(function, items))
