import bz2
import gzip
import os
import tracemalloc
from collections import deque
from dataclasses import replace

import pyarrow as pa
import pytest

from tunesmith.data import contents
from tunesmith.data.contents import decode_contents, open_seekable, read_contents
from tunesmith.errors import DataError
from tunesmith.store.keys import file_sha256


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


def read_all(file):
    return b"".join(read_contents(file))


def test_uncompressed_zstd_is_what_a_stream_of_it_is():
    assert zstd(b"x" * 100)[:4] == b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize("extension", ["", *COMPRESS])
def test_every_compression_gives_the_bytes(find, extension):
    content = b"some lines\n" * 300_000
    file, _ = find(f"a.txt{extension}", COMPRESS.get(extension, bytes)(content))
    assert read_all(file) == content
    with open_seekable(file) as stream:
        stream.seek(11)
        assert stream.read(4) == b"some"


@pytest.mark.parametrize("extension", COMPRESS)
def test_members_that_follow_each_other_are_one_file(find, extension):
    file, _ = find(f"a.txt{extension}", COMPRESS[extension](b"one\n") + COMPRESS[extension](b"two\n"))
    assert read_all(file) == b"one\ntwo\n"


@pytest.mark.parametrize("size", [5, 40, 3000])
@pytest.mark.parametrize("extension", COMPRESS)
def test_a_truncated_file_is_named_with_what_to_do(find, extension, size):
    whole = COMPRESS[extension]("".join(f"line {i * i}\n" for i in range(5000)).encode())
    file, _ = find(f"a.txt{extension}", whole[:size])
    with pytest.raises(DataError, match=rf"a\.txt\{extension}: the \w+ data ends early, after {size:,}.*again"):
        read_all(file)


@pytest.mark.parametrize("extension", COMPRESS)
def test_damaged_data_is_named(find, extension):
    whole = bytearray(COMPRESS[extension](os.urandom(1000)))
    whole[1] ^= 1
    for content in (bytes(whole), b"plain text, and enough of it to be seen as such"):
        file, _ = find(f"a.txt{extension}", content)
        with pytest.raises(DataError, match=rf"a\.txt\{extension}: not valid .* data \(.+\)\. Fetch.*extension"):
            read_all(file)


@pytest.mark.parametrize("extension", COMPRESS)
def test_a_bomb_is_stopped_at_its_limit_and_never_in_memory(find, monkeypatch, extension):
    monkeypatch.setattr(contents, "ALWAYS_ALLOWED_BYTES", 1 << 24)
    monkeypatch.setattr(contents, "MAX_INFLATION", 20)
    file, _ = find(f"a.txt{extension}", COMPRESS[extension](bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"compressed bytes become more than 16,777,216.*decompress the file"):
        deque(read_contents(file), maxlen=0)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_file_that_changed_since_it_was_found_is_refused_and_one_that_was_touched_is_not(find):
    file, _ = find("a.txt", "one\n")
    stamp = file.path.stat()
    known = replace(file, sha256=file_sha256(file.path), size_bytes=4, mtime_ns=stamp.st_mtime_ns)
    os.utime(file.path, ns=(0, 0))
    assert read_all(known) == b"one\n"
    file.path.write_text("two\n")
    with pytest.raises(DataError, match=r"a\.txt: the file has changed since the run looked at it"):
        read_all(known)


def test_a_file_that_changes_while_it_is_read_is_refused(find):
    file, _ = find("a.txt", "one\n" * 1_000_000)
    chunks = read_contents(file)
    next(chunks)
    os.utime(file.path, ns=(0, 0))
    with pytest.raises(DataError, match="changed while it was read"):
        list(chunks)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(find):
    file, _ = find("a.txt", "x")
    file.path.unlink()
    with pytest.raises(DataError, match=r"a\.txt: cannot be read: No such file"):
        read_all(file)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_byte_order_mark_is_dropped(find, encoding):
    mark = "" if encoding in ("utf-16", "utf-8-sig") else "\ufeff"
    file, source = find("a.txt", f"{mark}één\nzwei\n".encode(encoding), encoding=encoding)
    assert b"".join(decode_contents(file, source.encoding)).decode() == "één\nzwei\n"


def test_a_mark_further_in_is_text(find):
    file, _ = find("a.txt", "\ufeff\ufeffa\ufeff")
    assert b"".join(decode_contents(file, "utf-8")).decode() == "\ufeffa\ufeff"


def test_characters_may_lie_across_chunks(find, monkeypatch):
    monkeypatch.setattr(contents, "CHUNK_BYTES", 3)
    text = "zwölf Äpfel 🍎\n" * 10
    file, source = find("a.txt", text.encode("utf-16"), encoding="utf-16")
    assert b"".join(decode_contents(file, source.encoding)).decode() == text


def test_a_wrong_byte_is_located_in_any_encoding(find):
    file, source = find("a.txt", b"one\ntwo\nna\x81ve\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"a\.txt:3: byte 10 of the file \(0x81\) is not cp1252"):
        b"".join(decode_contents(file, source.encoding))
