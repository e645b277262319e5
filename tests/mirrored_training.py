"""A training whose machines die, one after the other, and that goes on on a third one; each has an empty disk."""

from __future__ import annotations

import os
import signal

from killable_training import Trainings, assert_same, is_running, wait_for
from tunesmith.store.config import StoreConfig
from tunesmith.store.s3 import split_uri


class Machines:
    """Machines that share a store on S3.

    Args:
        folder: Where each keeps what it has.
        features: What is trained on.
        base: The base model.
        uri: The store.
        s3: How the machines reach it.
        client: How the test looks into it.
    """

    def __init__(self, folder, features, base, uri, s3, client):
        self.folder, self.features, self.base = folder, features, base
        self.uri, self.s3, self.client = uri, s3, client

    def start(self, name):
        store = StoreConfig(uri=self.uri, s3=self.s3, cache=str(self.folder / name / "store"))
        return Trainings(self.folder / name, self.features, self.base, store=store)

    def mirrored_steps(self):
        """The steps of the checkpoints that are whole there."""
        place = f"{self.uri}/work/train/"
        names = [key[len(split_uri(place)[1]) :].split("/") for key in self.client.list_keys(place)]
        return {int(name[5:13]) for _key, name, file in names if file == "manifest.json"}


def train_on_three_machines(machines):
    """One is killed, one is preempted, one finishes; gives what it trained."""
    whole = Trainings(machines.folder / "whole", machines.features, machines.base).here()

    one = machines.start("one")
    caller = one.start()
    worker = one.wait_for_checkpoint()
    os.kill(worker, signal.SIGSTOP)  # or it would be done before a slow server has its checkpoint
    wait_for(machines.mirrored_steps)
    os.kill(caller.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    caller.communicate()
    assert not one.store.root.joinpath("artifacts").exists()
    assert 0 < max(machines.mirrored_steps()) < 145

    two = machines.start("two")
    caller = two.start()
    wait_for(two.newest_step)  # that is the one which it fetches
    fetched = two.newest_step()
    assert fetched in machines.mirrored_steps()
    worker = two.wait_for_checkpoint()
    caller.send_signal(signal.SIGTERM)
    output, shown = caller.communicate(timeout=240)
    assert caller.returncode == 3, output + shown
    assert not is_running(worker)
    assert two.newest_step() == max(machines.mirrored_steps()) > fetched

    ref = machines.start("three").here()
    assert_same(ref, whole)
    assert ref.facts["resumed_from_step"] == two.newest_step()
    assert machines.client.list_keys(f"{machines.uri}/work/") == []
    return ref
