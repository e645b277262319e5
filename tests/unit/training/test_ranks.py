"""Processes watched as one; here they are small scripts that train nothing."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from killable_training import is_running, wait_for
from tunesmith.training import ranks
from tunesmith.training.ranks import start_ranks

WAIT_FOR_US = "import sys; sys.stdin.read()"


@pytest.fixture
def start(tmp_path):
    started = []

    def start(script, count=2, env=None):
        logs = [tmp_path / f"{rank}.log" for rank in range(count)]
        text = f"import os, signal, sys, time\nrank = int(os.environ.get('RANK', -1))\n{script}"
        with (tmp_path / "lock").open("w") as lock:
            command = [sys.executable, "-S", "-c", text]  # nothing of this installation sets variables
            started.append(start_ranks(command, logs, env or os.environ, lock.fileno()))
        return started[-1]

    yield start
    for group in started:
        group.kill()
        group.wait()
        group.close()


def pids(group):
    return [process.pid for process in group._processes]


@pytest.mark.parametrize(
    ("ends", "exit_code", "rank"),
    [
        ("[0, 0]", 0, 0),
        ("[3, 3]", 3, 0),
        ("[0, 3]", 3, 0),
        ("[3, 4]", 4, 1),
        ("[1, 2]", 2, 1),  # what could be told, before what followed from it
        ("[1, 0]", 1, 0),
    ],
)
def test_the_group_ends_as_the_first_of_its_processes_that_failed(start, ends, exit_code, rank):
    group = start(f"sys.exit({ends}[rank])")
    while any(process.poll() is None for process in group._processes):  # unseen, so that both have ended at once
        pass
    group.wait()
    assert (group.returncode, group.failed_rank, group.log.name) == (exit_code, rank, f"{rank}.log")


def test_of_two_crashes_the_one_that_was_printed_first_is_told(start):
    group = start("time.sleep(0 if rank == 1 else 0.05)\nprint('crashed', flush=True)\nsys.exit(1)")
    while any(process.poll() is None for process in group._processes):
        pass
    group.wait()
    assert (group.returncode, group.failed_rank) == (1, 1)


def test_a_killed_process_takes_the_others_along(start, monkeypatch):
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.1)
    group = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.stdin.read()", count=3)
    assert group.poll() is None
    os.kill(pids(group)[2], signal.SIGKILL)
    group.wait()
    assert (group.returncode, group.failed_rank) == (-signal.SIGKILL, 2)
    assert not any(map(is_running, pids(group)))


def test_one_that_has_ended_well_leaves_the_others_their_time(start, monkeypatch):
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.0)
    group = start("if rank == 0: sys.stdin.read()\nsys.exit(3)")
    wait_for(lambda: not is_running(pids(group)[1]))
    group.wait(0.3)
    assert group.returncode is None
    group.close()
    group.wait()
    assert group.returncode == 3


def test_each_process_finds_its_rank_its_threads_and_the_loopback(start, tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "count_cores", lambda: 7)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME")
    script = f"print(*(os.environ.get(name) for name in {names}))"
    group = start(script, env={"RANK": "5", "WORLD_SIZE": "9", "PATH": os.environ["PATH"]})
    group.wait()
    assert [path.read_text() for path in (tmp_path / "0.log", tmp_path / "1.log")] == ["0 0 2 3 lo\n", "1 1 2 3 lo\n"]
    alone = start(script, count=1, env={"RANK": "5", "WORLD_SIZE": "9", "PATH": os.environ["PATH"]})
    alone.wait()
    assert Path(alone.log).read_text().splitlines()[-1] == "None None None None None"
