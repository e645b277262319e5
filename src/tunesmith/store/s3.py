"""S3, at any endpoint: objects found, read as they were when they were found, and written, every byte verified.

Credentials come from where every AWS tool takes them, the environment or a named profile, and never from a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import field_validator

from tunesmith.errors import DataError, UserError
from tunesmith.section import NOT_IN_KEY, Section

if TYPE_CHECKING:
    from tunesmith.store.s3_connection import Connection

SCHEME = "s3://"

Result = TypeVar("Result")


class S3Config(Section):
    """Which S3 server, and as whom. It may not hold credentials."""

    endpoint_url: Annotated[str, NOT_IN_KEY] = ""
    """The server's address, such as `http://127.0.0.1:9000`; by default AWS_ENDPOINT_URL, else Amazon's own."""
    region: Annotated[str, NOT_IN_KEY] = ""
    """The bucket's region, such as `eu-central-1`; by default AWS_DEFAULT_REGION, else the profile's."""
    profile: Annotated[str, NOT_IN_KEY] = ""
    """A profile in AWS's own files, `~/.aws`; by default AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""

    @field_validator("endpoint_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        problem = find_endpoint_problem(value) if value else None
        if problem is not None:
            raise ValueError(problem)
        return value


def find_endpoint_problem(value: str) -> str | None:
    """What is wrong with a server's address, without repeating what may be a secret in it; None where it is fine."""
    try:
        parts = urlsplit(value)
        has_port_or_none = parts.port is None or parts.port > 0
    except ValueError:
        return "not an address; write it like http://127.0.0.1:9000"
    if "@" in parts.netloc:
        return "holds a name or a password; credentials come from the environment or a profile, never from a recipe"
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port_or_none:
        return "not an address; write it like http://127.0.0.1:9000"
    if parts.query or parts.fragment:
        return "an address ends before '?' and '#'; write it like http://127.0.0.1:9000"
    return None


@dataclass(frozen=True)
class S3Object:
    """An object as it was when it was found.

    Attributes:
        uri: `s3://bucket/key`.
        etag: What the server calls this content, without quotes; empty where nobody asked.
        size_bytes: Its size.
        version: The version id, where the bucket keeps versions.
    """

    uri: str
    etag: str
    size_bytes: int
    version: str = ""


@dataclass(frozen=True)
class Patience:
    """How long trouble that may pass is borne.

    Attributes:
        request_seconds: The longest one request may take.
        deadline_seconds: How long one request is repeated, from its first failure.
        contact_seconds: The same, for a server that never answered.
        backoff_seconds: The first pause; each further one is twice as long, up to `max_backoff_seconds`.
        max_backoff_seconds: The longest pause.
    """

    request_seconds: float = 60.0
    deadline_seconds: float = 120.0
    contact_seconds: float = 15.0
    backoff_seconds: float = 0.2
    max_backoff_seconds: float = 10.0


class S3Client:
    """A connection to one S3 server; opened when it is first used.

    Args:
        config: Which server, and as whom.
        patience: How long trouble that may pass is borne.
        mistake: The class of errors that the user can mend: `DataError` for sources, `StoreError` for the store.
    """

    def __init__(
        self, config: S3Config, *, patience: Patience | None = None, mistake: type[UserError] = DataError
    ) -> None:
        self.config = config
        self.patience = patience or Patience()
        self.mistake = mistake

    @cached_property
    def connection(self) -> Connection:
        """The connection; s3fs is imported here, so that who only reads recipes need not wait for it."""
        from tunesmith.store.s3_connection import Connection

        return Connection(self.config, self.patience, self.mistake)

    def find_objects(self, uri: str) -> list[S3Object]:
        """The objects that a uri or a glob names, sorted by key.

        Args:
            uri: `s3://bucket/key`, where the key may hold `*`, `**`, `?` and `[...]`.

        Raises:
            UserError: There is no such bucket or object, the glob matches none, or the server refuses us.
            TunesmithError: The server cannot be reached, or its trouble outlives the deadline.
        """
        from tunesmith.store.s3_reading import find_objects

        return self._run(find_objects, uri)

    def stat(self, uri: str) -> S3Object:
        """One object's etag, size and version.

        Raises:
            UserError: There is no such bucket or object, or the server refuses us.
            TunesmithError: The server's trouble outlives the deadline.
        """
        from tunesmith.store.s3_reading import stat

        return self._run(stat, uri)

    def exists(self, uri: str, size_bytes: int | None = None) -> bool:
        """Whether there is an object of this name, and of this size where one is given."""
        from tunesmith.store.s3_reading import find_object

        found = self._run(find_object, uri)
        return found is not None and size_bytes in (None, found.size_bytes)

    def list_keys(self, uri: str) -> list[str]:
        """The keys that start with a uri's key."""
        from tunesmith.store.s3_reading import list_keys

        return self._run(list_keys, uri)

    def download(self, source: S3Object, target: Path, sha256: str = "") -> str:
        """Write an object to a file, exactly as it was when it was found, and verify every byte.

        Args:
            source: What `find_objects` or `stat` gave.
            target: The file; whatever was there is overwritten, and a failure leaves half of it.
            sha256: What the bytes must be, where that is known.

        Returns:
            The sha256 of its bytes.

        Raises:
            UserError: It is gone or changed since it was found, or the server refuses us.
            DamagedObject: The bytes are not the ones that `sha256` or the server's own checksums tell.
            TunesmithError: The server's trouble outlives the deadline.
        """
        from tunesmith.store.s3_reading import download

        return self._run(download, source, target, sha256)

    def read_bytes(self, uri: str) -> bytes | None:
        """A small object's verified bytes; None where there is none."""
        from tunesmith.store.s3_reading import read_bytes

        return self._run(read_bytes, uri)

    def upload(self, path: Path, uri: str, sha256: str) -> None:
        """Write a file to an object in one step, in parts where it is large, and verify what the server got.

        Args:
            path: The file.
            uri: Where to; an object of this name is replaced.
            sha256: What the file's bytes must be.
        """
        from tunesmith.store.s3_writing import upload

        self._run(upload, path, uri, sha256)

    def put(self, uri: str, content: bytes) -> None:
        """Write a small object, replacing what stands there."""
        from tunesmith.store.s3_writing import put

        self._run(put, uri, content)

    def put_if_absent(self, uri: str, content: bytes) -> bytes:
        """Write a small object unless there is one of this name.

        A server that cannot write conditionally lets the last of two writers win, so the name must say what the
        content means: whichever stands must do.

        Returns:
            What stands there now: `content`, or what another writer put there.
        """
        from tunesmith.store.s3_writing import put_if_absent

        return self._run(put_if_absent, uri, content)

    def copy(self, uri: str, target_uri: str) -> None:
        """Copy an object on the server; nothing happens where there is none."""
        from tunesmith.store.s3_writing import copy

        self._run(copy, uri, target_uri)

    def delete(self, uri: str) -> None:
        """Delete an object; nothing happens where there is none."""
        from tunesmith.store.s3_writing import delete

        self._run(delete, uri)

    def close(self) -> None:
        """End what other threads are doing with it, for good: they get a `CancelledError`."""
        self.connection.close()

    def _run(self, function: Callable[..., Coroutine[Any, Any, Result]], *args: Any) -> Result:
        return self.connection.run(function(self.connection, *args))


def is_s3_uri(uri: str) -> bool:
    """Whether a source or a store is on S3."""
    return uri.startswith(SCHEME)


def find_uri_problem(uri: str) -> str | None:
    """What is wrong with an S3 uri, without repeating what may be a secret in it; None where it is fine."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if "@" in bucket or ":" in bucket:
        return (
            "an S3 uri holds no credentials and no address: write s3://bucket/key, and the address in s3.endpoint_url"
        )
    if not uri.startswith(SCHEME) or not bucket:
        return f"{uri!r} is no S3 uri; write s3://bucket/key"
    if key.startswith("/") or "//" in key:
        return f"{uri!r} has an empty folder name ('//') in it"
    return None


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key of a uri."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    return bucket, key
