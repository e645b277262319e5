"""The chunk cache of a store on S3: found here, then there; what was written here is shared when a stage is done."""

from __future__ import annotations

import logging
from pathlib import Path, PurePath

from pydantic import ValidationError

from tunesmith.store.aside import open_aside
from tunesmith.store.blobs import Blob, Blobs, DamagedBlob, in_parallel
from tunesmith.store.chunks import SIDECAR, Chunk, ChunkCache, Sidecar, WriteChunk

log = logging.getLogger(__name__)


class RemoteChunkCache(ChunkCache):
    """Chunks in a local folder, and on S3.

    Args:
        root: The folder `chunks` of the local store.
        blobs: Where chunks' bytes lie on S3.
    """

    def __init__(self, root: Path, blobs: Blobs) -> None:
        super().__init__(root)
        self._blobs = blobs
        self._shared: dict[str, set[str]] = {}
        self._unshared: dict[tuple[str, str], Chunk] = {}

    def find(self, kind: str, key: str) -> Chunk | None:
        """The chunk under a key, as its sidecar here or there says."""
        chunk = super().find(kind, key)
        if chunk is not None or key not in self._shared_keys(kind):
            return chunk
        content = self._blobs.client.read_bytes(self._place(kind, key))
        try:
            sidecar = Sidecar.model_validate_json(content or b"")
        except ValidationError:
            return None
        if PurePath(sidecar.file).name != sidecar.file or not sidecar.file.startswith(key):
            return None
        return sidecar.describe(kind, key, self._folder(kind, key))

    def open(self, chunk: Chunk) -> Path | None:
        """The verified bytes of a chunk, fetched where they are not here."""
        path = super().open(chunk)
        if path is None:
            return self._fetch(chunk)
        if chunk.key not in self._shared_keys(chunk.kind):
            self._unshared[chunk.kind, chunk.key] = chunk
        return path

    def put(self, kind: str, key: str, suffix: str, write: WriteChunk) -> Chunk:
        """Write a chunk here; `share` brings it there."""
        chunk = super().put(kind, key, suffix, write)
        self._unshared[kind, key] = chunk
        return chunk

    def share(self) -> None:
        """Upload what was written or used here and is not there yet: the bytes first, then the sidecars."""
        chunks = [chunk for chunk in self._unshared.values() if super(RemoteChunkCache, self).open(chunk) is not None]
        self._blobs.share([Blob(chunk.path, chunk.sha256, chunk.size_bytes) for chunk in chunks])
        in_parallel(self._share_sidecar, chunks)
        self._unshared.clear()

    def _fetch(self, chunk: Chunk) -> Path | None:
        if chunk.key not in self._shared_keys(chunk.kind):
            return None
        try:
            with open_aside(self.root.parent) as folder:
                aside = folder / f"chunk{_suffix(chunk)}"
                self._blobs.fetch([Blob(aside, chunk.sha256, chunk.size_bytes)])
                return self._publish(chunk.kind, chunk.key, _suffix(chunk), aside, dict(chunk.facts)).path
        except DamagedBlob as error:
            self._forget(chunk, str(error))
            return None

    def _forget(self, chunk: Chunk, reason: str) -> None:
        log.warning("chunk %s %s: %s; set aside in %s/damaged", chunk.kind, chunk.key, reason, self._blobs.uri)
        self._blobs.set_aside(chunk.sha256)
        self._blobs.client.delete(self._place(chunk.kind, chunk.key))
        self._shared_keys(chunk.kind).discard(chunk.key)

    def _share_sidecar(self, chunk: Chunk) -> None:
        self._blobs.client.put(self._place(chunk.kind, chunk.key), chunk.sidecar)
        self._shared_keys(chunk.kind).add(chunk.key)

    def _shared_keys(self, kind: str) -> set[str]:
        """The keys that were there when this kind was first asked for: one listing, and not a question a chunk."""
        if kind not in self._shared:
            listed = self._blobs.client.list_keys(f"{self._blobs.uri}/chunks/{kind}/")
            self._shared[kind] = {PurePath(key).stem for key in listed}
        return self._shared[kind]

    def _place(self, kind: str, key: str) -> str:
        return f"{self._blobs.uri}/chunks/{kind}/{key}{SIDECAR}"


def _suffix(chunk: Chunk) -> str:
    return chunk.path.name.removeprefix(chunk.key)
