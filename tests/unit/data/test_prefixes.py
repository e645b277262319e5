"""The sha256 of beginnings of a file, continued from what was hashed before."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data import prefixes
from tunesmith.data.prefixes import hash_prefix


@pytest.fixture(autouse=True)
def close_marks(monkeypatch):
    monkeypatch.setattr(prefixes, "MIN_MARK_BYTES", 8)
    monkeypatch.setattr(prefixes, "BUFFER_BYTES", 3)
    monkeypatch.setattr(prefixes, "_marks", {})


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@given(ends=st.lists(st.one_of(st.none(), st.integers(0, 110)), max_size=6))
def test_a_beginning_has_the_hash_of_its_bytes_whatever_was_hashed_before(tmp_path_factory, ends):
    content = bytes(range(100))
    path = tmp_path_factory.mktemp("file") / "a.bin"
    path.write_bytes(content)
    for end in ends:
        assert hash_prefix(path, end) == sha256(content[:end])


def count_reads(monkeypatch):
    num_bytes = []
    fresh = hashlib.sha256

    class Counting:
        def __init__(self, digest=None):
            self.digest = digest or fresh()

        def update(self, data):
            num_bytes.append(len(data))
            self.digest.update(data)

        def copy(self):
            return Counting(self.digest.copy())

        def hexdigest(self):
            return self.digest.hexdigest()

    monkeypatch.setattr(prefixes.hashlib, "sha256", Counting)
    return num_bytes


def test_behind_the_last_mark_alone_bytes_are_hashed_again(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100))
    half = sha256(bytes(50))
    num_bytes = count_reads(monkeypatch)
    whole = hash_prefix(path)
    assert sum(num_bytes) == 100
    num_bytes.clear()
    assert hash_prefix(path) == whole
    assert hash_prefix(path, 50) == half
    assert sum(num_bytes) < 2 * 10


def test_what_was_hashed_of_a_file_that_has_changed_is_not_believed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100))
    hash_prefix(path)
    path.write_bytes(bytes(50) + b"x" * 51)
    assert hash_prefix(path, 60) == sha256(bytes(50) + b"x" * 10)
