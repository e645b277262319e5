"""Objects written in one step and verified: each request carries its md5, and the answer must have the same one."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.store.keys import file_sha256
from tunesmith.store.s3 import S3Object, split_uri
from tunesmith.store.s3_checksums import base64_digest, compute_parts_etag, even_parts, read_evidence
from tunesmith.store.s3_connection import Connection, together
from tunesmith.store.s3_errors import AbsentObject, ChangedObject, DamagedObject, UnknownCondition
from tunesmith.store.s3_reading import download, find_object, read_bytes

PART_BYTES = 16 * 2**20
"""What is larger is written in parts of this size, or of a larger one where there would be too many."""
MAX_PARTS = 10_000
MAX_PARTS_AT_ONCE = 4
MAX_ABORT_SECONDS = 10.0


async def upload(connection: Connection, path: Path, uri: str, sha256: str) -> None:
    """See `S3Client.upload`."""
    if path.stat().st_size <= PART_BYTES:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DamagedObject(f"{path}: its bytes changed before they were written to {uri}; run again")
        etag, expected = await _put(connection, uri, content), _md5(content).hex()
    else:
        if await asyncio.to_thread(file_sha256, path) != sha256:
            raise DamagedObject(f"{path}: its bytes changed before they were written to {uri}; run again")
        etag, expected = await _upload_in_parts(connection, path, uri)
    if etag != expected:
        await _read_back(connection, uri, path.stat().st_size, sha256)


async def put(connection: Connection, uri: str, content: bytes) -> None:
    """See `S3Client.put`."""
    if await _put(connection, uri, content) != _md5(content).hex():
        await _read_back(connection, uri, len(content), hashlib.sha256(content).hexdigest())


async def put_if_absent(connection: Connection, uri: str, content: bytes) -> bytes:
    """See `S3Client.put_if_absent`."""
    for _ in range(3):
        try:
            await _put(connection, uri, content, IfNoneMatch="*")
        except ChangedObject:
            pass  # there is one already: ours, where an answer got lost, or another writer's
        except UnknownCondition:
            if await find_object(connection, uri) is None:
                await _put(connection, uri, content)
        standing = await read_bytes(connection, uri)
        if standing is not None:
            return standing
    raise TunesmithError(f"{uri}: written three times, and gone each time; something deletes it. Run again")


async def copy(connection: Connection, uri: str, target_uri: str) -> None:
    """See `S3Client.copy`."""
    bucket, key = split_uri(uri)
    target_bucket, target_key = split_uri(target_uri)
    source = {"Bucket": bucket, "Key": key}
    try:
        await connection.request(
            uri, lambda client: client.copy_object(Bucket=target_bucket, Key=target_key, CopySource=source)
        )
    except AbsentObject:
        return


async def delete(connection: Connection, uri: str) -> None:
    """See `S3Client.delete`."""
    bucket, key = split_uri(uri)
    try:
        await connection.request(uri, lambda client: client.delete_object(Bucket=bucket, Key=key))
    except AbsentObject:
        return


async def _put(connection: Connection, uri: str, content: bytes, **condition: str) -> str:
    bucket, key = split_uri(uri)
    md5 = base64_digest(_md5(content))
    answer = await connection.request(
        uri,
        lambda client: client.put_object(Bucket=bucket, Key=key, Body=content, ContentMD5=md5, **condition),
    )
    return _tell_etag(answer)


async def _upload_in_parts(connection: Connection, path: Path, uri: str) -> tuple[str, str]:
    """Write an object in parts.

    Returns:
        The ETag that the server answers, and the one that it must be.
    """
    bucket, key = split_uri(uri)
    place = {"Bucket": bucket, "Key": key}
    begun = await connection.request(uri, lambda client: client.create_multipart_upload(**place))
    place["UploadId"] = begun["UploadId"]
    try:
        md5s, etags = await _upload_parts(connection, path, uri, place)
        expected = compute_parts_etag(md5s)
        return await _complete(connection, uri, place, etags), expected
    except BaseException:
        await asyncio.shield(_abort(connection, uri, place))
        raise


async def _upload_parts(
    connection: Connection, path: Path, uri: str, place: dict[str, str]
) -> tuple[list[bytes], list[str]]:
    size = path.stat().st_size
    sizes = even_parts(size, max(PART_BYTES, -(-size // MAX_PARTS)))
    slots = asyncio.Semaphore(MAX_PARTS_AT_ONCE)

    async def upload_part(index: int) -> tuple[bytes, str]:
        async with slots:
            content = await asyncio.to_thread(_read_range, path, index * sizes[0], sizes[index])
            md5 = _md5(content)
            request = {**place, "PartNumber": index + 1, "Body": content, "ContentMD5": base64_digest(md5)}
            answer = await connection.request(uri, lambda client: client.upload_part(**request))
            return md5, str(answer["ETag"])

    parts = await together(upload_part(index) for index in range(len(sizes)))
    return [md5 for md5, _ in parts], [etag for _, etag in parts]


async def _complete(connection: Connection, uri: str, place: dict[str, str], etags: list[str]) -> str:
    parts = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}
    try:
        answer = await connection.request(
            uri, lambda client: client.complete_multipart_upload(**place, MultipartUpload=parts)
        )
    except AbsentObject:  # completed already, and the answer got lost
        found = await find_object(connection, uri)
        if found is None:
            raise TunesmithError(f"{uri}: the server forgot the upload; run again") from None
        return found.etag
    return _tell_etag(answer)


async def _abort(connection: Connection, uri: str, place: dict[str, str]) -> None:
    try:
        async with asyncio.timeout(MAX_ABORT_SECONDS):
            await connection.request(uri, lambda client: client.abort_multipart_upload(**place))
    except (AbsentObject, TunesmithError, TimeoutError):
        return  # the bucket's own rules clean it up


async def _read_back(connection: Connection, uri: str, size_bytes: int, sha256: str) -> None:
    """What the answer does not tell is read again."""
    with tempfile.NamedTemporaryFile() as file:
        await download(connection, S3Object(uri, "", size_bytes), Path(file.name), sha256)


def _tell_etag(answer: dict[str, Any]) -> str:
    """The ETag of an answer, where it tells of the bytes; else empty."""
    evidence = read_evidence(str(answer.get("ETag", "")).strip('"'), answer)
    return evidence.md5 or evidence.parts_etag or ""


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _read_range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
