"""What a server tells of an object's bytes, and whether a file is those bytes."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.store.s3_checksums import (
    Evidence,
    base64_digest,
    compute_parts_etag,
    even_parts,
    guess_parts,
    read_evidence,
    verify,
    verify_parts,
)

CONTENT = b"some rows"
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
SHA1 = base64.b64encode(hashlib.sha1(CONTENT).digest()).decode()
CRC32 = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("etag", "head", "evidence"),
    [
        (MD5, {}, Evidence(md5=MD5)),
        (MD5, {"ServerSideEncryption": "AES256"}, Evidence(md5=MD5)),
        (MD5, {"ServerSideEncryption": "aws:kms"}, Evidence()),
        (MD5, {"SSECustomerAlgorithm": "AES256"}, Evidence()),
        ("CJi0oQ-opaque", {}, Evidence()),
        (f"{MD5}-3", {}, Evidence(parts_etag=f"{MD5}-3")),
        (MD5, {"ChecksumSHA256": SHA256, "ChecksumType": "FULL_OBJECT"}, Evidence(sha256=SHA256, md5=MD5)),
        ("x", {"ChecksumSHA256": SHA256, "ChecksumType": "COMPOSITE"}, Evidence()),
        ("x", {"ChecksumSHA256": f"{SHA256}-2"}, Evidence()),
        ("x", {"ChecksumCRC32": CRC32, "ChecksumSHA1": SHA1}, Evidence(sha1=SHA1, crc32=CRC32)),
    ],
)
def test_evidence_is_only_what_tells_of_the_whole_objects_bytes(etag, head, evidence):
    assert read_evidence(etag, head) == evidence


@pytest.mark.parametrize(
    "evidence", [Evidence(md5=MD5), Evidence(sha256=SHA256), Evidence(sha1=SHA1), Evidence(crc32=CRC32)]
)
def test_wrong_bytes_of_the_right_length_are_seen(tmp_path, evidence):
    (tmp_path / "right").write_bytes(CONTENT)
    (tmp_path / "wrong").write_bytes(b"some rowz")
    assert verify(tmp_path / "right", evidence) is True
    assert verify(tmp_path / "wrong", evidence) is False


def test_nothing_told_is_no_verdict(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert verify(tmp_path / "a", Evidence()) is None
    assert verify(tmp_path / "a", Evidence(parts_etag=f"{MD5}-3")) is None


@given(content=st.binary(min_size=1, max_size=200), part_bytes=st.integers(1, 100))
def test_the_etag_of_parts_comes_from_their_sizes(tmp_path_factory, content, part_bytes):
    path = tmp_path_factory.mktemp("parts") / "a"
    path.write_bytes(content)
    sizes = even_parts(len(content), part_bytes)
    assert sum(sizes) == len(content)
    parts = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)]
    etag = compute_parts_etag(hashlib.md5(part).digest() for part in parts)
    assert verify_parts(path, etag, sizes)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert not verify_parts(path, etag, sizes)


def test_uneven_parts_are_found_by_their_own_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"aaabbbbb")
    etag = compute_parts_etag([hashlib.md5(b"aaa").digest(), hashlib.md5(b"bbbbb").digest()])
    assert verify_parts(tmp_path / "a", etag, [3, 5])
    assert not verify_parts(tmp_path / "a", etag, [5, 3])


def test_the_usual_part_sizes_are_guessed():
    size = 40 * 2**20
    assert even_parts(size, 16 * 2**20) in list(guess_parts(size, 3))
    assert even_parts(size, 8 * 2**20) in list(guess_parts(size, 5))
    assert all(len(parts) == 3 for parts in guess_parts(size, 3))
    assert list(guess_parts(0, 0)) == []


def test_a_digest_is_written_as_s3s_headers_write_it():
    assert base64_digest(hashlib.md5(b"").digest()) == "1B2M2Y8AsgTpgAmY7PhCfg=="
