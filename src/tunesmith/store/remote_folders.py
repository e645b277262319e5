"""Sealed folders on S3 that come and go, such as the checkpoints of a training that is under way.

<name>/<file>          a folder's files, written first
<name>/manifest.json   what they must be, written last: a folder without it does not exist

The name holds a hash of the manifest, so whoever writes a name writes the same bytes, and two machines are never in
each other's way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from tunesmith.store.blobs import SMALL_BYTES, Blob, DamagedBlob, fetch_blob, in_parallel
from tunesmith.store.s3 import S3Client, split_uri
from tunesmith.store.sealed import MANIFEST, Manifest, seal

DIGEST_LENGTH = 16
"""Hex digits of the manifest's sha256 in a folder's name."""


@dataclass(frozen=True)
class RemoteFolders:
    """The sealed folders under one uri.

    Attributes:
        client: The connection.
        uri: `s3://bucket/prefix`.
        grace_seconds: How long work that is stopped may go on to write here.
    """

    client: S3Client
    uri: str
    grace_seconds: float

    def find_all(self) -> dict[str, bool]:
        """The names of all folders, and whether each has its manifest."""
        found: dict[str, bool] = {}
        for name, file in self._list_files(""):
            found[name] = found.get(name, False) or file == MANIFEST
        return found

    def upload(self, folder: Path, label: str) -> str:
        """Write a sealed folder; what an upload that was cut short left there is used.

        Args:
            folder: The folder; nobody writes to it any more.
            label: What its name begins with.

        Returns:
            The name.
        """
        content = (folder / MANIFEST).read_bytes()
        name = f"{label}-{_digest(content)}"
        for file, sealed in Manifest.model_validate_json(content).files.items():
            place = f"{self.uri}/{name}/{file}"
            if sealed.size_bytes < SMALL_BYTES or not self.client.exists(place, sealed.size_bytes):
                self.client.upload(folder / file, place, sealed.sha256)
        self.client.put(f"{self.uri}/{name}/{MANIFEST}", content)
        return name

    def fetch(self, name: str, target: Path) -> None:
        """Bring a folder here, every byte verified.

        Args:
            name: The folder.
            target: An empty folder; it is sealed at the end.

        Raises:
            DamagedBlob: A file or the manifest is gone or wrong.
        """
        place = f"{self.uri}/{name}"
        content = self.client.read_bytes(f"{place}/{MANIFEST}") or b""
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError:
            raise DamagedBlob(_digest(content), f"{place}/{MANIFEST} is gone or unreadable") from None
        if not name.endswith(_digest(content)) or not all(is_inside(file) for file in manifest.files):
            raise DamagedBlob(_digest(content), f"{place}/{MANIFEST} is not the one that the name tells")
        for file, sealed in manifest.files.items():
            blob = Blob(target / file, sealed.sha256, sealed.size_bytes)
            fetch_blob(self.client, f"{place}/{file}", blob)
        seal(target, manifest.header)

    def delete(self, name: str) -> None:
        """Delete a folder, whether it has a manifest or not."""
        self._delete(self._list_files(f"{name}/"))

    def delete_all(self) -> None:
        """Delete every folder."""
        self._delete(self._list_files(""))

    def _delete(self, files: Sequence[tuple[str, str]]) -> None:
        """The manifests first: what is half deleted does not exist."""
        for is_manifest in (True, False):
            places = [f"{self.uri}/{name}/{file}" for name, file in files if (file == MANIFEST) == is_manifest]
            in_parallel(self.client.delete, places)

    def _list_files(self, prefix: str) -> list[tuple[str, str]]:
        """The folder and the path in it of every object whose key goes on so."""
        listed = self.client.list_keys(f"{self.uri}/{prefix}")
        start = len(split_uri(f"{self.uri}/")[1])
        parts = [key[start:].partition("/") for key in listed]
        return [(name, file) for name, _, file in parts if file]


def is_inside(name: str) -> bool:
    """Whether a name in a manifest from elsewhere is that of a file in the manifest's folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name not in ("", ".", MANIFEST)


def _digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:DIGEST_LENGTH]
