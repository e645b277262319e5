"""What an S3 server tells of an object's bytes, and whether a file is those bytes.

An ETag is an md5 where the object was written at once, and the md5 of its parts' md5s where it was written in parts;
where the server keeps the key of its encryption elsewhere, it is neither. Larger hashes are there where the writer
asked for them.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
BLOCK_BYTES = 4 * MEBIBYTE

COMMON_PART_BYTES = tuple(size * MEBIBYTE for size in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024))
"""Part sizes of the usual tools, for servers that do not tell."""

_PLAIN = re.compile(r"[0-9a-f]{32}")
_IN_PARTS = re.compile(r"[0-9a-f]{32}-([0-9]{1,5})")


@dataclass(frozen=True)
class Evidence:
    """What a server tells of an object's bytes.

    Attributes:
        sha256: Base64, as the server writes it; None where it does not tell. The same holds for `sha1` and `crc32`.
        sha1: Base64.
        crc32: Base64, of the big-endian value.
        md5: Hex digits.
        parts_etag: The ETag of an object that was written in parts.
    """

    sha256: str | None = None
    sha1: str | None = None
    crc32: str | None = None
    md5: str | None = None
    parts_etag: str | None = None

    @property
    def num_parts(self) -> int:
        """In how many parts it was written; 0 where it was not."""
        match = _IN_PARTS.fullmatch(self.parts_etag or "")
        return int(match[1]) if match else 0


def read_evidence(etag: str, head: Mapping[str, Any]) -> Evidence:
    """What a HEAD's answer tells; an empty answer tells what the ETag alone does."""
    is_ours = head.get("ServerSideEncryption") in (None, "", "AES256") and not head.get("SSECustomerAlgorithm")
    is_whole = head.get("ChecksumType") != "COMPOSITE"

    def whole(name: str) -> str | None:
        value = str(head.get(name) or "")
        return value if value and is_whole and "-" not in value else None

    return Evidence(
        sha256=whole("ChecksumSHA256"),
        sha1=whole("ChecksumSHA1"),
        crc32=whole("ChecksumCRC32"),
        md5=etag if is_ours and _PLAIN.fullmatch(etag) else None,
        parts_etag=etag if is_ours and _IN_PARTS.fullmatch(etag) else None,
    )


def verify(path: Path, evidence: Evidence) -> bool | None:
    """Whether a file's bytes are the object's, by the strongest that the server tells; None where it tells nothing."""
    checks: Sequence[tuple[str | None, Callable[[Path], str]]] = (
        (evidence.sha256, lambda file: _hash(file, "sha256", base64_digest)),
        (evidence.sha1, lambda file: _hash(file, "sha1", base64_digest)),
        (evidence.md5, lambda file: _hash(file, "md5", bytes.hex)),
        (evidence.crc32, _crc32),
    )
    for expected, compute in checks:
        if expected is not None:
            return compute(path) == expected
    return None


def verify_parts(path: Path, etag: str, part_bytes: Iterable[int]) -> bool:
    """Whether a file, cut into parts of these sizes, has this ETag."""
    return compute_parts_etag(_read_parts(path, part_bytes)) == etag


def compute_parts_etag(part_md5s: Iterable[bytes]) -> str:
    """The ETag of an object that was written in parts.

    Example:
        >>> compute_parts_etag([hashlib.md5(b"a").digest(), hashlib.md5(b"b").digest()])
        '96a21e4e24f0a0baf80d77bc8ab1b7d9-2'
    """
    md5s = list(part_md5s)
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def even_parts(size_bytes: int, part_bytes: int) -> list[int]:
    """Parts of one size, the last one what is left.

    Example:
        >>> even_parts(25, 10)
        [10, 10, 5]
    """
    full, rest = divmod(size_bytes, part_bytes)
    return [part_bytes] * full + ([rest] if rest else [])


def guess_parts(size_bytes: int, num_parts: int) -> Iterator[list[int]]:
    """Ways in which the usual tools would have cut an object into this many parts."""
    sizes = {*COMMON_PART_BYTES, -(-size_bytes // num_parts)} if num_parts else set()
    for part_bytes in sorted(sizes - {0}):
        if -(-size_bytes // part_bytes) == num_parts:
            yield even_parts(size_bytes, part_bytes)


def base64_digest(digest: bytes) -> str:
    """A digest as S3's headers write it."""
    return base64.b64encode(digest).decode()


def _hash(path: Path, name: str, show: Callable[[bytes], str]) -> str:
    with path.open("rb") as file:
        return show(hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).digest())


def _crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return base64_digest(value.to_bytes(4, "big"))


def _read_parts(path: Path, part_bytes: Iterable[int]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for size in part_bytes:
            md5, left = hashlib.md5(usedforsecurity=False), size
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                md5.update(block)
                left -= len(block)
            yield md5.digest()
