"""Objects found, and read exactly as they were when they were found.

A client takes wrong bytes of the right length for good, so each object is held against what the server tells of it;
where that does not settle it, its ranges are read until two or more reads of each agree.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from tunesmith.errors import UserError
from tunesmith.store.keys import file_sha256
from tunesmith.store.s3 import SCHEME, S3Object, find_uri_problem, split_uri
from tunesmith.store.s3_checksums import even_parts, guess_parts, read_evidence, verify, verify_parts
from tunesmith.store.s3_connection import Connection, together
from tunesmith.store.s3_errors import AbsentObject, ChangedObject, DamagedObject, TruncatedBody

RANGE_BYTES = 8 * 2**20
MAX_RANGES = 4
"""Ranges of one object in memory at once."""
MAX_SMALL_BYTES = 64 * 2**20
"""The largest object that is read in one piece."""
MAX_AGREEMENT = 3
"""How many reads of each range must agree, at the most, before an object counts as damaged."""
MAX_READS = 12
"""Reads of one range before we give up finding two that agree."""


async def find_objects(connection: Connection, uri: str) -> list[S3Object]:
    """See `S3Client.find_objects`."""
    _check(connection, uri)
    _, pattern = split_uri(uri)
    magic = re.search(r"[*?\[]", pattern)
    if magic is None:
        return [await stat(connection, uri)]
    matches = _compile(connection, uri, pattern)
    prefix = pattern[: magic.start()]
    listed = [item for item in await _list_surely(connection, uri, prefix) if not item.uri.endswith("/")]
    found = [item for item in listed if matches.match(split_uri(item.uri)[1])]
    if not found:
        first = f", the first is {listed[0].uri!r}" if listed else ""
        raise connection.place(uri).mistaken(
            f"matches no object; {len(listed)} start with {prefix!r}{first}. Check the pattern: `*` stays inside one "
            "folder, `**` goes through all"
        )
    return found


async def find_object(connection: Connection, uri: str) -> S3Object | None:
    """One object; None where there is none, and an error where there is no bucket."""
    _check(connection, uri)
    try:
        head = await _head(connection, uri)
    except AbsentObject:
        await _require_bucket(connection, uri)
        return None
    return S3Object(uri, str(head["ETag"]).strip('"'), int(head["ContentLength"]), str(head.get("VersionId", "")))


async def stat(connection: Connection, uri: str) -> S3Object:
    """See `S3Client.stat`."""
    found = await find_object(connection, uri)
    if found is None:
        place = connection.place(uri)
        raise place.mistaken(f"there is no such object in bucket {place.bucket!r} at {place.server}; check the key")
    return found


async def list_keys(connection: Connection, uri: str) -> list[str]:
    """See `S3Client.list_keys`."""
    return [split_uri(item.uri)[1] async for item in _list(connection, uri, split_uri(uri)[1])]


async def read_bytes(connection: Connection, uri: str) -> bytes | None:
    """See `S3Client.read_bytes`."""
    _check(connection, uri)
    seen: Counter[bytes] = Counter()
    for _ in range(MAX_READS):
        try:
            body, answer = await _get(connection, uri, MAX_SMALL_BYTES)
        except AbsentObject:
            return None
        md5 = read_evidence(str(answer["ETag"]).strip('"'), answer).md5
        if md5 is not None and hashlib.md5(body, usedforsecurity=False).hexdigest() == md5:
            return body
        seen[body] += 1
        if md5 is None and seen[body] == 2:
            return body
    raise _damaged(uri, f"{MAX_READS} reads gave nothing that matches what the server tells of it")


async def download(connection: Connection, source: S3Object, target: Path, sha256: str = "") -> str:
    """See `S3Client.download`."""
    try:
        with target.open("wb") as file:
            ranges = _Ranges(connection, source, file.fileno())
            for agreement in range(1, MAX_AGREEMENT + 1):
                await ranges.settle(agreement)
                verdict = await _judge(connection, source, target, sha256)
                if verdict or (verdict is None and agreement > 1):
                    return sha256 or await asyncio.to_thread(file_sha256, target)
    except AbsentObject:
        place = connection.place(source.uri)
        raise place.mistaken(f"there is no such object any more in bucket {place.bucket!r}; run again") from None
    except ChangedObject:
        raise connection.place(source.uri).mistaken(
            "changed while it was read; run again once nobody writes to it, or read a key that is written once"
        ) from None
    told = "its sha256 is not the recorded one" if sha256 else f"they do not match its ETag {source.etag!r}"
    raise _damaged(source.uri, f"{told}, {MAX_AGREEMENT} equal reads")


class _Ranges:
    """The ranges of one object, each read until enough reads agree."""

    def __init__(self, connection: Connection, source: S3Object, descriptor: int) -> None:
        self._connection = connection
        self._source = source
        self._descriptor = descriptor
        self._seen: defaultdict[int, Counter[bytes]] = defaultdict(Counter)
        self._slots = asyncio.Semaphore(MAX_RANGES)

    async def settle(self, agreement: int) -> None:
        """Read every range until `agreement` reads of it are the same, which is what the file then holds."""
        starts = range(0, max(self._source.size_bytes, 1), RANGE_BYTES)
        await together(self._settle(start, agreement) for start in starts)

    async def _settle(self, start: int, agreement: int) -> None:
        seen = self._seen[start]
        async with self._slots:
            while max(seen.values(), default=0) < agreement:
                if seen.total() >= MAX_READS:
                    raise _damaged(self._source.uri, f"{MAX_READS} reads of bytes from {start} all differ")
                body = await self._read(start)
                digest = hashlib.sha256(body).digest()
                seen[digest] += 1
                if seen[digest] == max(seen.values()):
                    os.pwrite(self._descriptor, body, start)

    async def _read(self, start: int) -> bytes:
        source = self._source
        size = min(RANGE_BYTES, source.size_bytes - start)
        condition = {"IfMatch": f'"{source.etag}"'} if source.etag else {}
        if size < source.size_bytes:
            condition["Range"] = f"bytes={start}-{start + size - 1}"
        body, answer = await _get(self._connection, source.uri, RANGE_BYTES, **condition)
        etag = str(answer.get("ETag", "")).strip('"')
        if len(body) != size or (source.etag and etag and etag != source.etag):
            raise ChangedObject(source.uri)
        return body


async def _judge(connection: Connection, source: S3Object, path: Path, sha256: str) -> bool | None:
    """Whether a file is the object; None where the server tells nothing to hold it against."""
    if sha256:
        return await asyncio.to_thread(file_sha256, path) == sha256
    if await asyncio.to_thread(verify, path, read_evidence(source.etag, {})):
        return True
    head = await _head(connection, source.uri, IfMatch=f'"{source.etag}"', ChecksumMode="ENABLED")
    evidence = read_evidence(source.etag, head)
    verdict = await asyncio.to_thread(verify, path, evidence)
    if verdict is None and evidence.num_parts:
        return await _judge_parts(connection, source, path, evidence.num_parts)
    return verdict


async def _judge_parts(connection: Connection, source: S3Object, path: Path, num_parts: int) -> bool | None:
    """The ETag again, from the parts that the object was written in."""
    first = await _part_size(connection, source, 1)
    if first is None:
        guesses = guess_parts(source.size_bytes, num_parts)
        return any(verify_parts(path, source.etag, parts) for parts in guesses) or None
    if await asyncio.to_thread(verify_parts, path, source.etag, even_parts(source.size_bytes, first)):
        return True
    sizes = await together(_part_size(connection, source, number + 1) for number in range(num_parts))
    known = [size for size in sizes if size is not None]
    if sum(known) != source.size_bytes:
        return None
    return await asyncio.to_thread(verify_parts, path, source.etag, known)


async def _part_size(connection: Connection, source: S3Object, number: int) -> int | None:
    """One part's size, where the server tells: one that does not answers with the whole object, or refuses."""
    try:
        head = await _head(connection, source.uri, PartNumber=number)
    except (AbsentObject, ChangedObject, UserError):
        return None
    return int(head["ContentLength"]) if head.get("PartsCount") else None


async def _head(connection: Connection, uri: str, **options: Any) -> dict[str, Any]:
    """What the server tells of an object; where it refuses, a GET is asked, for only its answer says why.

    A client that a GET's answer tells of another region goes there from then on.
    """
    bucket, key = split_uri(uri)

    async def request(client: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await client.head_object(Bucket=bucket, Key=key, **options)
        return answer

    try:
        return await connection.request(uri, request)
    except UserError:
        await connection.request(uri, lambda client: client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0"))
        return await connection.request(uri, request)


async def _get(connection: Connection, uri: str, max_bytes: int, **options: Any) -> tuple[bytes, dict[str, Any]]:
    bucket, key = split_uri(uri)

    async def request(client: Any) -> tuple[bytes, dict[str, Any]]:
        answer: dict[str, Any] = await client.get_object(Bucket=bucket, Key=key, **options)
        async with answer["Body"] as stream:
            if answer["ContentLength"] > max_bytes:
                raise ChangedObject(uri)
            body = bytes(await stream.read())
        if len(body) != answer["ContentLength"]:
            raise TruncatedBody(f"{len(body)} of {answer['ContentLength']} bytes")
        return body, answer

    return await connection.request(uri, request)


async def _require_bucket(connection: Connection, uri: str) -> None:
    """A HEAD's answer has no body, and so does not tell a missing bucket from a missing key."""
    bucket, _ = split_uri(uri)
    try:
        await connection.request(uri, lambda client: client.head_bucket(Bucket=bucket))
    except AbsentObject:
        place = connection.place(uri)
        raise place.mistaken(
            f"there is no bucket {bucket!r} at {place.server}; check its name and the endpoint"
        ) from None


async def _list_surely(connection: Connection, uri: str, prefix: str) -> list[S3Object]:
    """A listing has no checksum: one counts once two in a row are the same."""
    before = [item async for item in _list(connection, uri, prefix)]
    for _ in range(MAX_READS):
        now = [item async for item in _list(connection, uri, prefix)]
        if now == before:
            return now
        before = now
    raise connection.place(uri).mistaken("the objects under it change while they are listed; run again")


async def _list(connection: Connection, uri: str, prefix: str) -> AsyncIterator[S3Object]:
    bucket, _ = split_uri(uri)
    options: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = await connection.request(uri, lambda client: client.list_objects_v2(**options))  # noqa: B023
        for item in page.get("Contents", []):
            yield S3Object(f"{SCHEME}{bucket}/{item['Key']}", str(item["ETag"]).strip('"'), int(item["Size"]))
        if not page.get("IsTruncated"):
            return
        options = {**options, "ContinuationToken": page["NextContinuationToken"]}


def _check(connection: Connection, uri: str) -> None:
    problem = find_uri_problem(uri)
    if problem is not None:
        raise connection.mistake(problem)


def _compile(connection: Connection, uri: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(glob_translate(pattern))
    except (ValueError, re.error):
        raise connection.place(uri).mistaken(
            "is no pattern; `**` stands alone between two slashes, and `[` needs its `]`"
        ) from None


def _damaged(uri: str, told: str) -> DamagedObject:
    return DamagedObject(
        f"{uri}: its bytes are wrong: {told}. The object is damaged, or something between here and the server "
        "changes it: write it again, or check the proxy"
    )
