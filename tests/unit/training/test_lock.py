from __future__ import annotations

import subprocess
import sys
import threading
import time

from tunesmith.training.lock import hold


def test_a_second_holder_waits_until_the_first_and_its_process_are_gone(tmp_path, caplog):
    order = []

    def wait_for_it():
        with hold(tmp_path):
            order.append("second")

    waiter = threading.Thread(target=wait_for_it)
    with hold(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
        waiter.start()
        time.sleep(0.3)
    time.sleep(0.5)
    order.append("first")
    child.communicate(b"\n")
    waiter.join(timeout=10)
    assert order == ["first", "second"]
    assert "another process is training this candidate" in caplog.text


def test_the_lock_of_a_deleted_folder_is_no_lock(tmp_path):
    folder = tmp_path / "work"
    with hold(folder):
        (folder / "lock").unlink()
        folder.rmdir()
        with hold(folder):
            assert (folder / "lock").exists()
