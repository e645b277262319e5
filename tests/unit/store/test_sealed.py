"""Sealed folders: what is shared with an earlier one is synced once, and then read-only."""

import os
from pathlib import Path

import pytest

from tunesmith.store import sealed
from tunesmith.store.sealed import find_damage, publish, seal


@pytest.fixture
def synced(monkeypatch):
    names = []
    sync = sealed._sync

    def spy(path):
        names.append(Path(path).name)
        sync(path)

    monkeypatch.setattr(sealed, "_sync", spy)
    return names


def make_folder(tmp_path, name, shared):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "shared.bin").hardlink_to(shared)
    (folder / "own.json").write_text(name)
    return folder


def test_a_file_that_an_earlier_folder_shares_is_not_synced_again(tmp_path, synced):
    shared = tmp_path / "shared.bin"
    shared.write_bytes(b"rows")
    first, second = (make_folder(tmp_path, name, shared) for name in ("first", "second"))
    seal(first, {})
    assert {"shared.bin", "own.json"} <= {*synced}
    synced.clear()
    seal(second, {})
    assert "own.json" in synced
    assert "shared.bin" not in synced
    assert find_damage(first) is find_damage(second) is None


def test_a_shared_file_is_read_only_once_it_is_synced_and_others_stay_as_they_are(tmp_path):
    shared = tmp_path / "shared.bin"
    shared.write_bytes(b"rows")
    folder = make_folder(tmp_path, "first", shared)
    seal(folder, {})
    assert publish(folder, tmp_path / "final")
    assert not (tmp_path / "final" / "shared.bin").stat().st_mode & 0o222
    assert (tmp_path / "final" / "own.json").stat().st_mode & 0o200


def test_a_sync_that_fails_leaves_the_file_to_be_synced(tmp_path, monkeypatch):
    shared = tmp_path / "shared.bin"
    shared.write_bytes(b"rows")
    folder = make_folder(tmp_path, "first", shared)

    def refuse(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        seal(folder, {})
    assert shared.stat().st_mode & 0o200
    assert not (folder / "manifest.json").exists()
