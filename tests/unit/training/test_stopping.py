"""How the training process is waited for when its parent is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tunesmith.training.launcher import _explain, _stop
from tunesmith.training.lock import hold
from tunesmith.training.mirroring import Mirroring
from tunesmith.training.ranks import Ranks, start_ranks

SLOW_TO_STOP = """
import signal, sys, time
def stop(number, frame):
    time.sleep(1)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", SLOW_TO_STOP], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.fixture
def ranks(process, tmp_path):
    log = tmp_path / "log"
    log.touch()
    return Ranks([process], [log], [0])


def test_what_an_earlier_process_printed_is_not_taken_for_the_reason_of_this_one(tmp_path):
    log = tmp_path / "log"
    log.write_text("torch.OutOfMemoryError: CUDA out of memory\n")
    with hold(tmp_path) as lock:
        ranks = start_ranks(["sh", "-c", "kill -SEGV $$"], [log], os.environ, lock)
        ranks.wait()
        ranks.close()
    told = _explain(ranks.returncode, ranks)
    assert told == f"the training process ended by signal 11: it printed nothing. All that it printed: {log}"


def test_a_process_that_ran_out_of_memory_is_told_as_one_whatever_it_printed_behind_that(tmp_path):
    log = tmp_path / "log"
    told = "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    with hold(tmp_path) as lock:
        ranks = start_ranks(["sh", "-c", f"echo '{told}'; echo; echo Fatal; kill -ABRT $$"], [log], os.environ, lock)
        ranks.wait()
        ranks.close()
    assert f"the training process ran out of memory ({told}). Lower" in _explain(ranks.returncode, ranks)


def signal_in(seconds, number):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def test_a_second_ctrl_c_costs_the_checkpoint(process, ranks):
    timer = signal_in(0.3, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _stop(ranks, Mirroring(None))
    timer.join()
    assert process.returncode == -signal.SIGKILL
