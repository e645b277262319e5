"""A training whose machine dies, and goes on on another one with an empty disk."""

from __future__ import annotations

import os
import signal

import pytest

from killable_training import Trainings, assert_same, is_running, wait_for
from tunesmith.store.config import StoreConfig
from tunesmith.store.s3 import S3Config, split_uri


@pytest.mark.timeout(600)  # four processes that import torch
def test_another_machine_goes_on_from_the_mirror_and_a_preempted_one_leaves_its_newest_checkpoint_there(
    tmp_path, features, bert, bucket, moto_url, connect
):
    whole = Trainings(tmp_path / "whole", features, bert).here()

    def machine(name):
        cache = str(tmp_path / name / "store")
        store = StoreConfig(uri=f"{bucket}/team", s3=S3Config(endpoint_url=moto_url), cache=cache)
        return Trainings(tmp_path / name, features, bert, store=store)

    client = connect()

    def mirrored_steps():
        keys = client.list_keys(f"{bucket}/team/work/train/")
        return {int(key.split("/")[4][5:13]) for key in keys if key.endswith("manifest.json")}

    one = machine("one")
    caller = one.start()
    worker = one.wait_for_checkpoint()
    wait_for(mirrored_steps)
    os.kill(caller.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    caller.communicate()
    assert not one.store.root.joinpath("artifacts").exists()
    assert 0 < max(mirrored_steps()) < 145

    two = machine("two")
    caller = two.start()
    wait_for(two.newest_step)  # that is the one which it fetches
    fetched = two.newest_step()
    assert fetched in mirrored_steps()
    worker = two.wait_for_checkpoint()
    caller.send_signal(signal.SIGTERM)
    output, shown = caller.communicate(timeout=120)
    assert caller.returncode == 3, output + shown
    assert not is_running(worker)
    assert two.newest_step() == max(mirrored_steps()) > fetched

    ref = machine("three").here()
    assert_same(ref, whole)
    assert ref.facts["resumed_from_step"] == two.newest_step()
    assert client.list_keys(f"{bucket}/team/work/") == []
    assert client.list_keys(f"{bucket}/team/artifacts/train/{ref.key}/") == [
        split_uri(f"{bucket}/team/artifacts/train/{ref.key}/manifest.json")[1]
    ]
