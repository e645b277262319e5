"""The fetch stage: what the sources hold now, as files on this machine with their hashes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.data.assumptions import describe_assumptions
from tunesmith.data.files import SourceFile, check_one_format, find_local_files, tell_apart
from tunesmith.data.hub import find_hub_files
from tunesmith.data.prefixes import hash_prefix
from tunesmith.data.s3_files import find_s3_files, find_streamed_s3_files
from tunesmith.data.sources import DataConfig, FilesSource, HubSource, Source
from tunesmith.data.sql import run_query
from tunesmith.errors import DataError
from tunesmith.store.disk import told_in_words
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Ref
from tunesmith.store.s3 import S3Client, S3Config, is_s3_uri

log = logging.getLogger(__name__)

FETCHED = "fetched"
"""The store's folder of what came from elsewhere."""


def fetch(data: DataConfig, store: FolderStore, environ: Mapping[str, str] | None = None) -> Ref:
    """Look what the sources hold, and bring here what is not.

    Args:
        data: The sources.
        store: Where files from elsewhere are kept.
        environ: Where the URLs of databases are looked up; by default this process's environment.

    Returns:
        A reference whose key is the content of all files. Its facts list the files (`SourceFile.from_json`), and what
        was assumed about each source because the recipe does not say it.

    Raises:
        DataError: A source cannot be used.
        FullDiskError: There is no room for what comes from elsewhere.
        TunesmithError: A server cannot be reached.
    """
    start, folder = time.perf_counter(), store.root / FETCHED
    environ = os.environ if environ is None else environ
    room_bytes = None if data.streaming is None else data.streaming.max_copied_bytes
    found: list[SourceFile] = []
    assumed: list[str] = []
    for index, source in enumerate(data.sources):
        with told_in_words(store.root):
            stamped = [replace(_stamp(file), source=index) for file in _find_files(source, folder, environ, room_bytes)]
        check_one_format(stamped)
        assumed += [_with_name(text, source) for text in describe_assumptions(source, stamped)]
        found += stamped
    files = tell_apart(found)
    if assumed:
        log.info("fetch: assumed %s", "; ".join(assumed))
    num_bytes = sum(file.size_bytes for file in files)
    log.info("fetch: %d %s, %s bytes", len(files), "file" if len(files) == 1 else "files", f"{num_bytes:,}")
    facts: dict[str, Any] = {"files": [file.as_json() for file in files], "assumed": assumed, "size_bytes": num_bytes}
    key = compute_key({"files": [[file.source, file.sha256] for file in files]})
    return Ref(
        kind="fetch",
        key=key,
        uri=str(folder),
        facts=facts,
        seconds=time.perf_counter() - start,
    )


def _find_files(
    source: Source, folder: Path, environ: Mapping[str, str], room_bytes: int | None
) -> Iterator[SourceFile]:
    match source:
        case FilesSource():
            yield from _find_named(source, folder / "s3", room_bytes)
        case HubSource():
            yield from find_hub_files(source.hub, source, folder / "hub")
        case _:
            path, sha256 = run_query(source.sql, folder / "sql", environ)
            label = f"{source.name} (sql)" if source.name is not None else "sql query"
            yield SourceFile(path, "jsonl", label, label, label, counts_rows=True, sha256=sha256)


def _find_named(source: FilesSource, folder: Path, room_bytes: int | None) -> Iterator[SourceFile]:
    """The files of a source, in the order in which it names them; all of its objects on S3 share the room."""
    client = S3Client(source.s3 or S3Config())
    objects = {name: client.find_objects(name) for name in source.files if is_s3_uri(name)}
    num_bytes = sum(found.size_bytes for name in objects for found in objects[name])
    for name in source.files:
        if name not in objects:
            yield from find_local_files([name], source)
        elif room_bytes is None or num_bytes <= room_bytes:
            yield from find_s3_files(objects[name], source, client, folder)
        else:
            yield from find_streamed_s3_files(objects[name], source, client, folder, room_bytes)


def _stamp(file: SourceFile) -> SourceFile:
    """A file with its hash, and how it looked when that was computed."""
    if file.remote is not None:
        return file
    try:
        before = file.path.stat()
        sha256 = file.sha256 or hash_prefix(file.path)
        after = file.path.stat()
    except OSError as error:
        raise DataError(
            f"{file.place}: cannot be read: {error.strerror or error}. Check its permissions, and that it is there."
        ) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(
            f"{file.place}: the file changed while it was read. Run again once nothing writes to it, or name a copy."
        )
    return replace(file, sha256=sha256, size_bytes=after.st_size, mtime_ns=after.st_mtime_ns)


def _with_name(text: str, source: Source) -> str:
    return f"{source.name}: {text}" if source.name is not None else text
