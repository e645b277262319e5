"""Files of a source that lie on S3: found, and copied into the store's folder."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from tunesmith.data.files import Remote, SourceFile, describe_file
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.remote_copies import find_remote
from tunesmith.store.keys import compute_key, file_sha256
from tunesmith.store.s3 import S3Client, S3Object
from tunesmith.store.sealed import write_json_atomically

log = logging.getLogger(__name__)

STREAMED = "streamed"
"""The folder of copies that go when there is no room."""


def find_s3_files(
    objects: Iterable[S3Object], options: ReaderOptions, client: S3Client, folder: Path
) -> Iterator[SourceFile]:
    """Objects on S3 as files on this machine.

    An object that was copied before is copied again only if it changed; the copy is verified either way.

    Args:
        objects: What the server found.
        options: How they are read.
        client: A connection to the server.
        folder: Where copies are kept.

    Raises:
        DataError: The server refuses us.
        TunesmithError: The server cannot be reached.
    """
    for found in objects:
        describe_file(Path(PurePosixPath(found.uri).name), options, found.uri)
        known = found if found.etag else client.stat(found.uri)
        path, sha256 = _ensure_copy(known, client, folder)
        yield replace(describe_file(path, options, known.uri), sha256=sha256)


def find_streamed_s3_files(
    objects: Iterable[S3Object], options: ReaderOptions, client: S3Client, folder: Path, room_bytes: int
) -> Iterator[SourceFile]:
    """The same for a stream whose objects are too many for the disk: each is copied when it is read.

    Args:
        objects: What the server found.
        options: How they are read.
        client: A connection to the server.
        folder: Where copies are kept.
        room_bytes: How many bytes of copies may lie there.

    Raises:
        DataError: An object is larger than the room, or the server refuses us.
        TunesmithError: The server cannot be reached.
    """
    s3 = client.config.model_dump(mode="json", exclude_unset=True)
    for found in objects:
        describe_file(Path(PurePosixPath(found.uri).name), options, found.uri)
        known = found if found.etag else client.stat(found.uri)
        remote = Remote(**asdict(known), s3=s3, room_bytes=room_bytes)
        path = folder / STREAMED / _name_copy(known, client) / PurePosixPath(known.uri).name
        yield find_remote(describe_file(path, options, known.uri), remote, client)


def _name_copy(found: S3Object, client: S3Client) -> str:
    return compute_key({**asdict(found), "endpoint": client.config.endpoint_url})


def _ensure_copy(found: S3Object, client: S3Client, folder: Path) -> tuple[Path, str]:
    key = _name_copy(found, client)
    path, note = folder / key / PurePosixPath(found.uri).name, folder / key / "sha256.json"
    if note.exists() and path.exists():
        sha256 = str(json.loads(note.read_bytes())["sha256"])
        if file_sha256(path) == sha256:
            return path, sha256
        log.warning("fetch: the copy of %s is damaged; it is fetched again", found.uri)
    log.info("fetch: copying %s, %s bytes", found.uri, f"{found.size_bytes:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        sha256 = client.download(found, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    write_json_atomically(note, {"sha256": sha256})
    return path, sha256
