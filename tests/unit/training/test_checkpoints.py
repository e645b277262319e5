from __future__ import annotations

import errno
import shutil
import threading

import pytest

from tunesmith.store import sealed
from tunesmith.training import checkpoints as module
from tunesmith.training.checkpoints import Checkpoints, Position, read_position, restore_quarantine


def write(work, step, content=b"weights"):
    (work / "spool").write_text("")
    with Checkpoints(work) as checkpoints:
        checkpoints.make_room()
        folder = checkpoints.aside(step)
        (folder / "weights").write_bytes(content)
        checkpoints.publish(folder, Position(step=step, meter={"row_sum": 1 / 3}), work / "spool", work / "quarantine")


def names(work):
    return sorted(path.name for path in (work / "checkpoints").iterdir())


def test_the_last_two_are_kept_and_the_newest_is_found(tmp_path):
    for step in (5, 10, 200):
        write(tmp_path, step)
    assert names(tmp_path) == ["step-00000005", "step-00000010", "step-00000200"]
    Checkpoints(tmp_path).make_room()
    assert names(tmp_path) == ["step-00000010", "step-00000200"]
    newest = Checkpoints(tmp_path).find_newest()
    assert read_position(newest) == Position(step=200, meter={"row_sum": 1 / 3})
    assert not (tmp_path / "aside").exists()


def test_one_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 5, b"before the validation")
    write(tmp_path, 5, b"after it")
    assert (Checkpoints(tmp_path).find_newest() / "weights").read_bytes() == b"after it"


def test_where_replacing_one_is_cut_short_the_new_one_is_already_there(tmp_path, monkeypatch):
    def die(_folder):
        raise KeyboardInterrupt

    write(tmp_path, 5, b"before the validation")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 5, b"after it")
    assert (Checkpoints(tmp_path).find_newest() / "weights").read_bytes() == b"after it"


@pytest.mark.parametrize("name", ["step-00000005", "trainer/checkpoint-5"])
def test_where_replacing_the_only_one_is_cut_short_between_its_moves_the_new_one_is_used(name, tmp_path, monkeypatch):
    write(tmp_path, 5, b"before the validation")
    (tmp_path / "spool").write_text("")
    folder = tmp_path / "aside" / name
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"after it")
    with monkeypatch.context() as patch:
        patch.setattr(module, "publish", lambda *_: 1 / 0)
        checkpoints = Checkpoints(tmp_path)
        checkpoints.publish(folder, Position(step=5), tmp_path / "spool", tmp_path / "quarantine")
        with pytest.raises(ZeroDivisionError):
            checkpoints.wait()
    assert names(tmp_path) == []
    assert (Checkpoints(tmp_path).find_newest() / "weights").read_bytes() == b"after it"
    assert not (tmp_path / "aside").exists()


def test_a_damaged_older_one_is_no_obstacle_for_the_next(tmp_path):
    for step in (5, 10):
        write(tmp_path, step)
    (tmp_path / "checkpoints" / "step-00000005" / "position.json").write_bytes(b"")
    assert Checkpoints(tmp_path).find_newest().name == "step-00000010"
    for step in (15, 20):
        write(tmp_path, step)
    assert names(tmp_path) == ["step-00000010", "step-00000015", "step-00000020"]


def test_one_that_the_disk_cannot_read_is_set_aside_and_one_that_we_may_not_read_is_an_error(
    tmp_path, monkeypatch, caplog
):
    def read(path):
        if "step-00000010" in str(path):
            raise OSError(number, "told by the system")
        return file_sha256(path)

    file_sha256 = sealed.file_sha256
    for step in (5, 10):
        write(tmp_path, step)
    monkeypatch.setattr(sealed, "file_sha256", read)
    number = errno.EACCES
    with pytest.raises(PermissionError):
        Checkpoints(tmp_path).find_newest()
    number = errno.EIO
    assert Checkpoints(tmp_path).find_newest().name == "step-00000005"
    assert "cannot be read (told by the system)" in caplog.text


def test_what_was_refused_is_that_of_the_checkpoint_whatever_lies_in_the_work_folder(tmp_path):
    checkpoint, here = tmp_path / "checkpoint", tmp_path / "work"
    (checkpoint / "quarantine").mkdir(parents=True)
    (checkpoint / "quarantine" / "00000001.parquet").write_bytes(b"rows")
    here.mkdir()
    for name in ("00000001.parquet", "00000002.parquet"):  # the power failed before their bytes were on the disk
        (here / name).touch()
    restore_quarantine(checkpoint, here)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"00000001.parquet": b"rows"}
    restore_quarantine(None, here)
    assert not here.exists()


def test_training_goes_on_while_a_checkpoint_is_sealed_and_what_goes_wrong_is_told_at_the_next(tmp_path, monkeypatch):
    write(tmp_path, 5)
    may_go_on = threading.Event()

    def fail_later(*_):
        assert may_go_on.wait(10)
        raise OSError("no space left on device")

    (tmp_path / "spool").write_text("a row\n")
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(module, "seal", fail_later)
    checkpoints.publish(checkpoints.aside(10), Position(step=10), tmp_path / "spool", tmp_path / "quarantine")
    (tmp_path / "spool").write_text("a row\nand one of the next step\n")
    assert (checkpoints.aside(10) / module.SPOOL).read_text() == "a row\n"
    assert checkpoints.newest().name == "step-00000005"
    may_go_on.set()
    with pytest.raises(OSError, match="no space left"):
        checkpoints.publish(checkpoints.aside(15), Position(step=15), tmp_path / "spool", tmp_path / "quarantine")
    assert Checkpoints(tmp_path).find_newest().name == "step-00000005"


def test_a_save_that_is_cut_short_leaves_the_older_ones(tmp_path, monkeypatch):
    write(tmp_path, 5)
    for name, newest in (("seal", "step-00000005"), ("publish", "step-00000010")):  # sealed, it is as good as there
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                write(tmp_path, 10)
        assert Checkpoints(tmp_path).find_newest().name == newest


def test_a_deletion_that_is_cut_short_is_not_taken_for_damage(tmp_path, monkeypatch, caplog):
    for step in (5, 10, 15):
        write(tmp_path, step)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", lambda *_args, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Checkpoints(tmp_path).make_room()
    assert names(tmp_path) == ["step-00000010", "step-00000015"]
    assert Checkpoints(tmp_path).find_newest().name == "step-00000015"
    assert not caplog.text


@pytest.mark.parametrize("file", ["weights", "position.json", "metrics.jsonl", "manifest.json"])
def test_one_that_lacks_a_file_is_set_aside_with_a_warning(file, tmp_path, caplog):
    write(tmp_path, 5)
    write(tmp_path, 10)
    (tmp_path / "checkpoints" / "step-00000010" / file).unlink()
    assert Checkpoints(tmp_path).find_newest().name == "step-00000005"
    assert "step-00000010" in caplog.text
    assert file in caplog.text
    assert names(tmp_path) == ["step-00000005"]
    assert len(list((tmp_path / "damaged").iterdir())) == 1
