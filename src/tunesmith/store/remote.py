"""A store on S3 that machines share; each works on a folder of its own, and what one has computed no other computes.

artifacts/<kind>/<key>/manifest.json   what an artifact holds; written last, and only where there is none yet
blobs/<sha256>                         the bytes of every file
requests/<kind>/<key>.json             ingredients once used, and the key of the artifact that they led to
chunks/<kind>/<key>.json               sidecars of the chunk cache
work/<kind>/<key>/                     what work that is under way leaves for another machine: checkpoints
damaged/                               what did not match, set aside

What has no manifest does not exist; a crash before it leaves blobs that the next attempt finds there.
"""

from __future__ import annotations

import logging
import time
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from tunesmith.errors import StoreError, TunesmithError
from tunesmith.store.blobs import Blob, Blobs, DamagedBlob
from tunesmith.store.derivation import Derivation
from tunesmith.store.folder import GONE, FolderStore, Request, Status
from tunesmith.store.ref import Ref
from tunesmith.store.remote_chunks import RemoteChunkCache
from tunesmith.store.remote_folders import RemoteFolders, is_inside
from tunesmith.store.s3 import Patience, S3Client, S3Config
from tunesmith.store.sealed import (
    MANIFEST,
    Manifest,
    read_manifest,
    seal,
    write_bytes_atomically,
)

log = logging.getLogger(__name__)

DAMAGED = "damaged: "
GRACE_SECONDS = 25.0
"""Kubernetes kills 30 seconds after SIGTERM."""
UNREADABLE = f"{DAMAGED}{MANIFEST} is unreadable"


class RemoteStore(FolderStore):
    """A content-addressed store on S3.

    Args:
        uri: `s3://bucket/prefix`.
        config: Which S3 server, and as whom.
        root: This machine's folder for what it makes and fetches.
        recipe: The recipe whose earlier runs a change is explained against.
        patience: How long trouble with the server that may pass is borne.
        grace_seconds: How long work that is stopped may go on to leave there what another machine needs.
    """

    def __init__(
        self,
        uri: str,
        config: S3Config,
        root: Path,
        recipe: str = "",
        *,
        patience: Patience | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        super().__init__(root, recipe)
        self.uri = uri.rstrip("/")
        self._grace_seconds = grace_seconds
        self._client = S3Client(config, patience=patience, mistake=StoreError)
        self._blobs = Blobs(self._client, self.uri)

    @cached_property
    def chunks(self) -> RemoteChunkCache:
        """The chunks that artifacts are put together from, shared too."""
        return RemoteChunkCache(self.root / "chunks", self._blobs)

    def status(self, derivation: Derivation) -> Status:
        """Look a derivation up here, then there, and verify every byte; nothing changes there."""
        status = super().status(derivation)
        if status.ref is not None or status.reason.startswith(DAMAGED):
            return status
        problem = self._fetch(derivation)
        return super().status(derivation) if problem is None else Status(None, problem or status.reason)

    def find(self, derivation: Derivation) -> Ref | None:
        """The intact artifact of a derivation, which other machines find too, or None."""
        ref = super().find(derivation)
        return ref if ref is not None and self._is_shared(derivation, ref) else None

    def ensure(self, derivation: Derivation) -> Ref:
        """The artifact of a derivation: found here, fetched, or computed; and shared with the other machines.

        Raises:
            StoreError: The server refuses us, or there is no such bucket.
            TunesmithError: The server's trouble outlives the deadline, or what the derivation's `build` raises.
        """
        ref = super().ensure(derivation)
        if not self._is_shared(derivation, ref):
            ref = self._share(derivation, ref)
        self.chunks.share()
        return ref

    def list_requests(self, kind: str) -> list[Request]:
        """What any machine ever computed of a kind; the newest first."""
        folder = f"requests/{kind}/"
        for key in self._client.list_keys(f"{self.uri}/{folder}"):
            path = self.root / folder / PurePosixPath(key).name
            content = None if path.exists() else self._client.read_bytes(f"{self.uri}/{folder}{path.name}")
            if content is not None:
                write_bytes_atomically(path, content)
        return super().list_requests(kind)

    def find_folder(self, kind: str, key: str) -> Path | None:
        """The folder of an artifact that is here or there; it is fetched whole."""
        folder = super().find_folder(kind, key)
        if folder is None and self._fetch_artifact(kind, key) is None:
            folder = super().find_folder(kind, key)
        return folder

    def open_mirror(self, derivation_kind: str, key: str) -> RemoteFolders:
        """Where work that is under way leaves what another machine needs to go on with it; a connection of its own."""
        client = S3Client(self._client.config, patience=self._client.patience, mistake=StoreError)
        return self._mirror(client, derivation_kind, key)

    def discard_work(self, derivation_kind: str, key: str) -> None:
        """Delete a work folder, behind what it left there; where the server does not answer, an empty one stays."""
        mirror = self._mirror(self._client, derivation_kind, key)
        try:
            mirror.delete_all()
        except TunesmithError as error:
            log.warning("%s: not deleted (%s); running again deletes it", mirror.uri, error)
            super().discard_work(derivation_kind, key)
            self.work_folder(derivation_kind, key)
            return
        super().discard_work(derivation_kind, key)

    def _compute(self, derivation: Derivation) -> Ref:
        problem = self._fetch(derivation)  # what was damaged here may be whole there
        key = self._artifact_key(derivation)
        if problem is None and key is not None:
            return self._found(derivation, key)
        if problem and key is not None:
            self._retire(derivation.kind, key, problem)
        return super()._compute(derivation)

    def _set_aside(self, derivation: Derivation, reason: str) -> None:
        key = self._artifact_key(derivation)
        super()._set_aside(derivation, reason)
        if reason == GONE and key is not None:
            self._retire(derivation.kind, key, reason)

    def _artifact_key(self, derivation: Derivation) -> str | None:
        key = super()._artifact_key(derivation)
        if key is not None:
            return key
        content = self._client.read_bytes(self._request_uri(derivation))
        if content is not None:
            write_bytes_atomically(self._request(derivation), content)
        return super()._artifact_key(derivation)

    def _fetch(self, derivation: Derivation) -> str | None:
        """Bring an artifact here.

        Returns:
            None when it is here now; else what is wrong with the one there, empty where there is none.
        """
        key = self._artifact_key(derivation)
        if key is None:
            return ""
        problem = self._fetch_artifact(derivation.kind, key)
        manifest = read_manifest(self._folder(derivation.kind, key)) if problem is None else None
        if manifest is not None and not self._request(derivation).exists():
            self._write_request(derivation, key, manifest.header["facts"])
        return problem

    def _fetch_artifact(self, kind: str, key: str) -> str | None:
        content = self._client.read_bytes(self._manifest_uri(kind, key))
        if content is None:
            return ""
        manifest = _parse_manifest(content)
        if manifest is None:
            return UNREADABLE
        try:
            with self.aside() as aside:
                self._blobs.fetch(_blobs(aside, manifest))
                seal(aside, manifest.header)
                self._publish(kind, key, aside)
        except DamagedBlob as error:
            return f"{DAMAGED}{error}"
        log.info("%s: fetched from %s", kind, self.uri)
        return None

    def _is_shared(self, derivation: Derivation, ref: Ref) -> bool:
        if derivation.address is not None and not self._client.exists(self._request_uri(derivation)):
            return False
        standing = _parse_manifest(self._client.read_bytes(self._manifest_uri(ref.kind, ref.key)) or b"")
        ours = read_manifest(ref.folder)
        return standing is not None and ours is not None and standing.files == ours.files

    def _share(self, derivation: Derivation, ref: Ref) -> Ref:
        ours = read_manifest(ref.folder)
        if ours is None:
            raise TunesmithError(f"{ref.folder}: it vanished while it was shared; run again")
        self._blobs.share(_blobs(ref.folder, ours))
        self._client.put(self._request_uri(derivation), self._request(derivation).read_bytes())
        place, content = self._manifest_uri(ref.kind, ref.key), (ref.folder / MANIFEST).read_bytes()
        standing = _parse_manifest(self._client.put_if_absent(place, content))
        if standing is None:
            self._retire(ref.kind, ref.key, UNREADABLE)
            standing = _parse_manifest(self._client.put_if_absent(place, content)) or ours
        return ref if standing.files == ours.files else self._adopt(derivation, ref.key, standing)

    def _adopt(self, derivation: Derivation, key: str, standing: Manifest) -> Ref:
        """Another machine published other bytes under this key first; one truth is kept, and it is theirs."""
        self._move_to_damaged(derivation.kind, key, "another machine was first, with other bytes")
        problem = self._fetch(derivation)
        if problem is not None:
            raise TunesmithError(f"{self._manifest_uri(derivation.kind, key)}: {problem or 'it is gone'}; run again")
        self._write_request(derivation, key, standing.header["facts"])
        return self._found(derivation, key)

    def _retire(self, kind: str, key: str, reason: str) -> None:
        """Set an artifact there aside: its manifest, and every blob of it that is damaged."""
        place = self._manifest_uri(kind, key)
        content = self._client.read_bytes(place)
        if content is None:
            return
        target = f"{self.uri}/damaged/{kind}-{key}-{time.time_ns()}/{MANIFEST}"
        self._client.copy(place, target)
        self._client.delete(place)
        log.warning("%s: %s; set aside in %s", place, reason, target)
        if reason.startswith(DAMAGED):
            self._set_damaged_blobs_aside(content)

    def _set_damaged_blobs_aside(self, manifest: bytes) -> None:
        parsed = _parse_manifest(manifest)
        blobs = [] if parsed is None else _blobs(Path(), parsed)
        with self.aside() as aside:
            for blob in blobs:
                try:
                    self._blobs.fetch([Blob(aside / blob.sha256, blob.sha256, blob.size_bytes)])
                except DamagedBlob:
                    self._blobs.set_aside(blob.sha256)

    def _mirror(self, client: S3Client, derivation_kind: str, key: str) -> RemoteFolders:
        return RemoteFolders(client, f"{self.uri}/work/{derivation_kind}/{key}", self._grace_seconds)

    def _manifest_uri(self, kind: str, key: str) -> str:
        return f"{self.uri}/artifacts/{kind}/{key}/{MANIFEST}"

    def _request_uri(self, derivation: Derivation) -> str:
        return f"{self.uri}/requests/{derivation.kind}/{derivation.key}.json"


def _parse_manifest(content: bytes) -> Manifest | None:
    """A manifest from elsewhere; None where it is none, or names a file outside of its folder."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        return None
    is_sound = "facts" in manifest.header and all(is_inside(name) for name in manifest.files)
    return manifest if is_sound else None


def _blobs(folder: Path, manifest: Manifest) -> list[Blob]:
    return [Blob(folder / name, file.sha256, file.size_bytes) for name, file in manifest.files.items()]
