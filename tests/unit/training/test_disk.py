"""A disk that is full: the training ends with words, what was there is whole, and running again goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import full_disk
from killable_training import SOURCE, Trainings, assert_same
from tunesmith.errors import FullDiskError
from tunesmith.store.disk import is_full
from tunesmith.training import disk
from tunesmith.training.trained import weights_sha256

POINTS = ("error", "weights", "row", "optimizer", "progress", "manifest", "result")


@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_whatever_does_not_fit_ends_the_training_with_a_code_and_leaves_the_older_checkpoint_whole(
    engine, tmp_path, make_job, train_here
):
    options = {"engine": engine, "logging_steps": 1, "save_steps": 2, "num_epochs": 3, "precision": "fp32"}
    whole = make_job(tmp_path / "whole", **options)
    train_here(whole)
    job = make_job(tmp_path / "full", **options)
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    never_written, held_open = os.pipe()  # as a training process has it
    done = subprocess.run(
        [sys.executable, full_disk.__file__, str(path), *POINTS],
        stdin=never_written,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    os.close(held_open)
    os.close(never_written)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    told = {each["point"]: each for each in outcome["told"]}
    for point in POINTS:
        assert told[point]["code"] == disk.EXIT_CODE, told[point]
        assert told[point]["intact"], told[point]
        assert not told[point]["error_json"]
    assert told["row"]["spool_ends_in_a_row"] is False
    assert told["weights"]["newest_after"] == "step-00000002"
    assert told["result"]["newest_before"] <= told["result"]["newest_after"]
    assert told[None]["code"] == 0
    assert outcome["sha256"] == weights_sha256(whole.result / "model")
    assert outcome["rows"] == (whole.result / "metrics.jsonl").read_text()


@pytest.mark.timeout(600)  # three processes that import torch
def test_a_disk_that_fills_up_under_a_training_is_told_with_the_folder_the_need_and_what_to_do(
    tmp_path, features, bert
):
    whole = Trainings(tmp_path / "whole", features, bert).here()
    trainings = Trainings(tmp_path / "full", features, bert)
    caller = trainings.start()
    worker = trainings.wait_for_checkpoint()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, hard))
    output, shown = caller.communicate(timeout=240)
    assert caller.returncode == 4, output + shown
    assert "Traceback" not in output + shown
    message = next(line for line in output.splitlines() if "the disk is full" in line)
    assert str(trainings.work) in message
    assert re.search(r"a checkpoint of about [\d.]+ MB and the rows beside it; [\d,.]+ MB are free", message)
    assert "Make room, or keep the store on a larger disk (store.uri" in message
    step = trainings.newest_step()
    assert f"training goes on from the checkpoint of step {step}, which is whole" in message
    assert not (trainings.work / "error.json").exists()
    assert not (trainings.work / "aside").exists()
    ref = trainings.here()
    assert_same(ref, whole)
    assert ref.facts["resumed_from_step"] == step


def test_before_the_first_checkpoint_it_says_that_training_begins_anew(tmp_path):
    assert "no room for the first checkpoint" in str(disk.explain_full(tmp_path))
    assert "training starts from the beginning" in str(disk.explain_full(tmp_path))


def write_to_full_device():
    with Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)


def test_a_write_to_a_full_device_is_known_as_such_and_nothing_else_is(tmp_path):
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is what matters
        write_to_full_device()
    assert caught.value.errno == errno.ENOSPC
    assert is_full(caught.value, tmp_path)
    wrapped = ValueError("a library's own")
    wrapped.__cause__ = caught.value
    assert is_full(wrapped, tmp_path)
    assert not is_full(FileNotFoundError(errno.ENOENT, "no such file"), tmp_path)
    assert not is_full(RuntimeError("torch is not happy"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_parent_cannot_write_is_told_in_the_same_words(tmp_path):
    def write():
        with disk.told_in_words(tmp_path):
            write_to_full_device()

    with pytest.raises(FullDiskError, match="the disk is full"):
        write()
    with pytest.raises(FileNotFoundError), disk.told_in_words(tmp_path):
        (tmp_path / "none").read_text()
