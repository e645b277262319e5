"""The contents of a file: decompressed within limits, as UTF-8, and those that it had when it was found."""

from __future__ import annotations

import bz2
import codecs
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import BinaryIO, NoReturn, cast

import pyarrow as pa

from tunesmith.data.files import SourceFile
from tunesmith.data.remote_copies import open_file
from tunesmith.errors import DataError
from tunesmith.store.keys import file_sha256

CHUNK_BYTES = 1 << 20

MAX_INFLATION = 200
"""How many times its compressed size a file may grow to; text compresses 3 to 20 times."""

ALWAYS_ALLOWED_BYTES = 1 << 30
"""Up to here a file may grow any number of times."""

MARK = codecs.BOM_UTF8

MAGIC = {
    b"\x1f\x8b": "gzip data: add .gz to its name",
    b"BZh": "bzip2 data: add .bz2 to its name",
    b"\x28\xb5\x2f\xfd": "zstd data: add .zst to its name",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"PAR1": "a parquet file: set format to parquet",
    b"ARROW1": "an arrow file: set format to arrow",
    codecs.BOM_UTF16_LE: "marked as utf-16: set encoding to utf-16",
    codecs.BOM_UTF16_BE: "marked as utf-16: set encoding to utf-16",
}
"""What the first bytes of a file that is no text may tell."""


def read_contents(file: SourceFile, start: int = 0) -> Iterator[bytes]:
    """The bytes of a file, decompressed, some at a time.

    Args:
        file: The file.
        start: Bytes to leave out, of a file that is not compressed.

    Raises:
        DataError: The file cannot be read, is damaged, grows too large, or has changed since it was found.
    """
    num_bytes = 0
    with open_contents(file) as (stream, num_compressed):
        limit = max(MAX_INFLATION * num_compressed, ALWAYS_ALLOWED_BYTES)
        if start:
            stream.seek(start)
        while chunk := stream.read(CHUNK_BYTES):
            num_bytes += len(chunk)
            if file.compression is not None and num_bytes > limit:
                raise DataError(
                    f"{file.place}: {num_compressed:,} compressed bytes become more than {limit:,}, {MAX_INFLATION} "
                    "times as many: a decompression bomb? If it is meant to be that large, decompress the file, and "
                    "name the result."
                )
            yield chunk


def decode_contents(file: SourceFile, encoding: str, start: int = 0) -> Iterator[bytes]:
    """The text of a file in UTF-8 without a byte-order mark, some at a time. UTF-8 itself is passed on unchecked.

    Args:
        file: The file.
        encoding: What it is written in.
        start: Bytes of the text to leave out, where `can_skip` holds.

    Raises:
        DataError: As for `read_contents`, or the file is not in this encoding.
    """
    if start:
        yield from read_contents(file, start + count_mark(file))
        return
    chunks = read_contents(file) if is_utf8(encoding) else _recode(file, encoding)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(MARK):
            break
    yield head.removeprefix(MARK)
    yield from chunks


def can_skip(file: SourceFile, encoding: str) -> bool:
    """Whether reading a file's text can begin anywhere: its bytes are those of the text."""
    return file.compression is None and is_utf8(encoding)


def count_mark(file: SourceFile) -> int:
    """Bytes of the mark that a file's text begins behind.

    Raises:
        DataError: The file cannot be read.
    """
    with open_contents(file) as (stream, _):
        return len(MARK) if stream.read(len(MARK)) == MARK else 0


def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8, by one of its names."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def refuse_encoding(file: SourceFile, encoding: str) -> NoReturn:
    """Say where the first byte is that is not in this encoding: found in a second reading.

    Raises:
        DataError: Always.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line, offset, start = 1, 0, b""
    for chunk in read_contents(file):
        start = start or chunk[:8]
        offset += len(chunk)
        try:
            line += decoder.decode(chunk).count("\n")
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(encoding, errors="ignore")
            place = f"{file.label}:{line + good.count(chr(10))}"
            at, byte = offset - len(error.object) + error.start, error.object[error.start]
            raise DataError(
                f"{place}: byte {at:,} of the file (0x{byte:02x}) is not {encoding}. {_suggest_encoding(start)}"
            ) from None
        except UnicodeError:
            break
    raise DataError(
        f"{file.label}: the text is not {encoding}, or ends in the middle of a character. Set encoding to what it was "
        "written in."
    )


@contextmanager
def open_contents(file: SourceFile) -> Iterator[tuple[BinaryIO, int]]:
    """The bytes of a file as a stream, decompressed, and its size on the disk; in the body, reading fails clearly.

    Raises:
        DataError: The file cannot be read, is damaged, or has changed since it was found.
    """
    try:
        with open_file(file) as raw:
            before = os.fstat(raw.fileno())
            _check_unchanged(file, before)
            with _decompress(file, raw) as stream:
                yield stream, before.st_size
                after = os.fstat(raw.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                _refuse_change(file, "while it was read")
    except EOFError:
        _refuse_truncated(file)
    except (gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        _refuse_damaged(file, error)
    except OSError as error:
        if error.errno is None and "truncated" in str(error).lower():
            _refuse_truncated(file)
        if error.errno is None and file.compression is not None:
            _refuse_damaged(file, error)
        raise DataError(f"{file.place}: cannot be read: {error.strerror or error}. Check the file.") from None


@contextmanager
def open_seekable(file: SourceFile) -> Iterator[BinaryIO]:
    """The bytes of a file as a stream in which one can jump: what is compressed is unpacked on the disk.

    Raises:
        DataError: As for `read_contents`.
    """
    if file.compression is None:
        with open_contents(file) as (stream, _):
            yield stream
        return
    with tempfile.TemporaryFile(prefix="tunesmith-") as unpacked:
        for chunk in read_contents(file):
            unpacked.write(chunk)
        unpacked.seek(0)
        yield cast(BinaryIO, unpacked)


def _decompress(file: SourceFile, raw: BinaryIO) -> AbstractContextManager[BinaryIO]:
    match file.compression:
        case "gzip":
            return cast(BinaryIO, gzip.open(raw))
        case "bz2":
            return cast(BinaryIO, bz2.open(raw))
        case "zstd":
            return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw), "zstd"))
        case None:
            return nullcontext(raw)


def _recode(file: SourceFile, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in read_contents(file):
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        refuse_encoding(file, encoding)


def _check_unchanged(file: SourceFile, now: os.stat_result) -> None:
    """Compare with what was found: by size and time, and where these differ, by content."""
    if file.sha256 is None or (file.size_bytes, file.mtime_ns) == (now.st_size, now.st_mtime_ns):
        return
    if file_sha256(file.path) != file.sha256:
        _refuse_change(file, "since the run looked at it")


def _suggest_encoding(start: bytes) -> str:
    known = next((meaning for magic, meaning in MAGIC.items() if start.startswith(magic)), None)
    if known is not None:
        return f"The file is {known}."
    return "Set encoding to what the file was written in, for instance cp1252 or latin-1, or write it as utf-8."


def _refuse_change(file: SourceFile, when: str) -> NoReturn:
    raise DataError(
        f"{file.place}: the file has changed {when}. Run again once nothing writes to it, or name a copy of it."
    )


def _refuse_truncated(file: SourceFile) -> NoReturn:
    raise DataError(
        f"{file.place}: the {file.compression} data ends early, after {file.path.stat().st_size:,} compressed bytes: "
        "the file is truncated. Fetch or write it again."
    )


def _refuse_damaged(file: SourceFile, error: Exception) -> NoReturn:
    reason = str(error).splitlines()[0].rstrip(".")
    raise DataError(
        f"{file.place}: not valid {file.compression} data ({reason}). Fetch or write the file again, or take the "
        "extension off its name if it is not compressed."
    )
