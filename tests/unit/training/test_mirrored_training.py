from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from killable_training import is_running, wait_for
from mirrored_training import Machines, train_on_three_machines
from tunesmith.store.s3 import S3Config
from tunesmith.training.mirror import CheckpointMirror


class Terminated(BaseException):
    """As Prefect's TerminationSignal."""


@pytest.mark.timeout(600)  # four processes that import torch
def test_another_machine_goes_on_from_the_mirror_and_a_preempted_one_leaves_its_newest_checkpoint_there(
    tmp_path, features, bert, bucket, moto_url, connect
):
    s3, client = S3Config(endpoint_url=moto_url), connect()
    ref = train_on_three_machines(Machines(tmp_path, features, bert, f"{bucket}/team", s3, client))
    assert [key.rpartition("/")[2] for key in client.list_keys(f"{bucket}/team/artifacts/train/{ref.key}/")] == [
        "manifest.json"
    ]


@pytest.mark.timeout(300)
def test_a_machine_that_is_told_to_stop_twice_still_brings_its_checkpoint_there(
    tmp_path, features, bert, bucket, moto_url, connect, monkeypatch
):
    def raise_it(_number, _frame):
        raise Terminated

    def upload_slowly(self):
        time.sleep(1)
        return upload(self)

    def tell_to_stop():
        wait_for(one.newest_step)
        worker = json.loads((one.work / "progress.json").read_text())["pid"]
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: not is_running(worker))
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    upload = CheckpointMirror.upload_newest
    monkeypatch.setattr(CheckpointMirror, "upload_newest", upload_slowly)
    machines = Machines(tmp_path, features, bert, f"{bucket}/team", S3Config(endpoint_url=moto_url), connect())
    one = machines.start("one")
    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        thread = threading.Thread(target=tell_to_stop)
        thread.start()
        with pytest.raises(Terminated):
            one.here()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is raise_it
    finally:
        signal.signal(signal.SIGTERM, before)
    assert one.newest_step() == max(machines.mirrored_steps())
