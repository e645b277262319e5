"""A store without room, or that cannot be written: an error that says where and what to do."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import pytest
from test_folder import text_derivation

from tunesmith.errors import FullDiskError, StoreError
from tunesmith.store.derivation import Derivation
from tunesmith.store.disk import is_full, put_in_words
from tunesmith.store.folder import FolderStore


def fill_disk(folder: Path) -> dict[str, int]:
    (folder / "model").symlink_to("/dev/full")
    (folder / "model").write_bytes(bytes(100_000))
    return {}


def test_a_disk_that_is_full_while_an_artifact_is_made_is_told_with_the_place_the_room_and_what_to_do(tmp_path):
    store = FolderStore(tmp_path / "store")
    derivation = Derivation("note", text_derivation("a").ingredients, fill_disk)
    with pytest.raises(FullDiskError) as caught:
        store.ensure(derivation)
    room = r"the disk is full; [\d,.]+ MB are free\. Make room there, or move what lies there to a larger disk"
    assert re.match(re.escape(str(store.root)) + ": " + room, str(caught.value))
    assert list((store.root / "aside").iterdir()) == []
    assert not store.ensure(text_derivation("a")).is_cached


@pytest.mark.parametrize("place", ["/proc/nowhere/store", "{folder}/file/store"])
def test_a_store_that_cannot_be_written_is_a_mistake_of_the_call(place, tmp_path):
    (tmp_path / "file").write_text("in the way")
    root = place.format(folder=tmp_path)
    with pytest.raises(StoreError, match=rf"^{root} cannot be written \(N.*\. Name a folder that can: store\.uri"):
        FolderStore(Path(root)).ensure(text_derivation("a"))


def test_a_file_that_a_stage_misses_is_no_store_that_cannot_be_written(tmp_path):
    def build(folder: Path) -> dict[str, int]:
        return {"length": len((folder / "none").read_text())}

    with pytest.raises(FileNotFoundError):
        FolderStore(tmp_path).ensure(Derivation("note", text_derivation("a").ingredients, build))


def test_the_place_is_that_of_the_file_and_not_the_one_it_was_copied_from(tmp_path):
    error = OSError(28, os.strerror(28), str(tmp_path / "from"), None, str(tmp_path / "to"))
    assert str(put_in_words(error, Path("/"))).startswith(f"{tmp_path / 'to'}: the disk is full")


def test_a_database_that_finds_no_room_is_known_as_such(tmp_path):
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.executescript("CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x)")
    database.close()
    assert is_full(caught.value, tmp_path)
