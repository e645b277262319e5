"""What a process that was killed was writing to a store goes; what others write, and what is damaged, stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from test_folder import text_derivation

from tunesmith.store.aside import OLD_SECONDS, open_aside
from tunesmith.store.folder import FolderStore

WRITER = """
import sys
from pathlib import Path
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore

store = FolderStore(Path(sys.argv[1]))

def build(folder):
    (folder / "model").write_bytes(bytes(1000))
    store.chunks.put("weights", sys.argv[2], ".bin", write)
    return {}

def write(path):
    path.write_bytes(bytes(1000))
    print("writing", flush=True)
    sys.stdin.readline()

store.ensure(Derivation("export", compose_ingredients(config={"name": sys.argv[2]}, inputs={}, code=()), build))
"""


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def start_writer(store, name):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.root), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    return process


def list_aside(store):
    return {path.name for path in (store.root / "aside").iterdir()}


def test_what_a_killed_process_was_writing_is_deleted_by_the_next_and_what_a_living_one_writes_is_not(store):
    with start_writer(store, "killed") as killed:
        dead = list_aside(store)
        killed.kill()
    with start_writer(store, "living") as living:
        assert len(dead) == 2  # the artifact, and a chunk of it
        assert list_aside(store).isdisjoint(dead)  # it has deleted them before it began
        alive = list_aside(store)
        store.ensure(text_derivation("a"))
        assert list_aside(store) == alive
        living.communicate("go on\n", timeout=60)
    assert living.returncode == 0
    assert len(list((store.root / "artifacts" / "export").iterdir())) == 1
    assert list_aside(store) == set()


def test_what_another_machine_may_be_writing_has_to_be_old(store):
    aside, old = store.root / "aside", time.time() - OLD_SECONDS - 60
    for name in ("written", "left", "waiting"):
        (aside / name / "model").mkdir(parents=True)
    (aside / "left" / "model" / "weights").write_bytes(b"1")
    (aside / "written" / "model" / "weights").write_bytes(b"1")
    (aside / "left.bin").write_bytes(b"1")
    for path in aside.rglob("*"):
        os.utime(path, (old, old))
    (aside / "waiting" / "model").rmdir()  # a folder that has to be filled when its training is done
    os.utime(aside / "written" / "model" / "weights")
    store.ensure(text_derivation("a"))
    assert list_aside(store) == {"written", "waiting"}


def test_what_is_damaged_is_never_deleted(store):
    ref = store.ensure(text_derivation("a"))
    (ref.folder / "parts" / "note.txt").write_text("b")
    store.ensure(text_derivation("a"))
    (damaged,) = (store.root / "damaged").iterdir()
    old = time.time() - 10 * OLD_SECONDS
    for path in (damaged, *damaged.rglob("*")):
        os.utime(path, (old, old))
    store.ensure(text_derivation("b"))
    assert (damaged / "parts" / "note.txt").read_text() == "b"


def test_a_folder_in_use_is_kept_in_the_same_process_too(store):
    with open_aside(store.root) as folder:
        store.ensure(text_derivation("a"))
        assert folder.exists()
    assert not folder.exists()
