"""Where predictions go: one file, or a folder of shards, on this machine or on S3."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunesmith.data.files import SourceFile
from tunesmith.errors import CallError
from tunesmith.evaluation.writers import OutputFormat, find_output_format
from tunesmith.inference.assembling import assemble, assemble_on_s3
from tunesmith.inference.places import FolderPlace, Place, S3Place
from tunesmith.store.keys import compute_key
from tunesmith.store.s3 import S3Client, find_uri_problem, is_s3_uri


@dataclass(frozen=True)
class Target:
    """Where predictions go.

    Attributes:
        name: As it was given; a folder without the slash at its end.
        is_folder: Whether shards are what is asked for, or one file of them.
        output_format: Of the file, or of each shard.
        extension: Of the shards' names.
        work: A folder on this machine that is this target's alone.
        client: A connection to S3.
    """

    name: str
    is_folder: bool
    output_format: OutputFormat
    extension: str
    work: Path
    client: S3Client

    @property
    def place(self) -> Place:
        """Where the shards lie."""
        if not self.is_folder:
            return FolderPlace(self.work / "shards")
        if is_s3_uri(self.name):
            return S3Place(self.name, self.client, self.work)
        return FolderPlace(Path(self.name))

    def check(self, sources: Sequence[SourceFile], *, overwrite: bool) -> None:
        """Refuse a target that cannot be written.

        Raises:
            CallError: It is an input, exists already, or has no folder to lie in.
        """
        if self.name in [source.place for source in sources]:
            raise CallError(f"{self.name}: is the input; name another file")
        if is_s3_uri(self.name):
            if not self.is_folder and not overwrite and self.client.exists(self.name):
                raise CallError(_exists(self.name))
            return
        path = Path(self.name)
        if not path.parent.is_dir():
            raise CallError(f"{path}: there is no folder {path.parent}")
        if path.exists() and any(source.path.exists() and path.samefile(source.path) for source in sources):
            raise CallError(f"{path}: is the input; name another file")
        if self.is_folder and path.is_file():
            raise CallError(f"{path}: is a file; name a folder, or a file that ends in .csv, .jsonl or .parquet")
        if not self.is_folder and path.exists() and not overwrite:
            raise CallError(_exists(self.name))

    def finish(self, names: Sequence[str]) -> None:
        """Make the one file of the shards in their order; a folder of shards is finished as it is."""
        if self.is_folder:
            return
        parts = [self.work / "shards" / name for name in names]
        if is_s3_uri(self.name):
            assemble_on_s3(parts, self.output_format, self.name, self.client, self.work)
        else:
            assemble(parts, self.output_format, Path(self.name))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the target, so that no other run on this machine writes to it.

        Raises:
            CallError: Another run holds it.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.work.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CallError(f"{self.name}: another run is predicting into it; wait for its end, or stop it") from None


def find_target(name: str, shard_format: OutputFormat, work: Path, client: S3Client) -> Target:
    """What a target's name asks for: a folder where it has no extension or ends in a slash, else a file.

    Raises:
        CallError: The name asks for a format that cannot be written, or is no address on S3.
    """
    if is_s3_uri(name) and (problem := find_uri_problem(name)):
        raise CallError(problem)
    path = PurePosixPath(name)
    is_folder = name.endswith("/") or not path.suffix or (not is_s3_uri(name) and Path(name).is_dir())
    clean = name.rstrip("/") if is_s3_uri(name) else str(Path(name).absolute())
    own = work / compute_key({"target": clean, "endpoint": client.config.endpoint_url})
    if is_folder:
        return Target(clean, True, shard_format, f".{shard_format}", own, client)
    found = find_output_format(Path(path.name))
    extension = f".{found}.gz" if path.suffix.lower() == ".gz" else f".{found}"
    return Target(clean if is_s3_uri(name) else name, False, found, extension, own, client)


def _exists(name: str) -> str:
    return f"{name}: exists already; name another file, or ask for it to be overwritten"
