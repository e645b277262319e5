"""Every file of a checkpoint, damaged in every way: training goes back to the older one and ends the same."""

from __future__ import annotations

import shutil
from itertools import product

import pytest

from tunesmith.store.sealed import read_manifest
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.reporter import Reporter

OPTIONS = {"max_steps": 10, "save_steps": 4, "num_epochs": 1}

STATE = {"weights-0.safetensors", "optimizer-0.pt", "scheduler.pt"}
SEALED = {"loop": {*STATE, "randomness-0.pt"}, "trainer": {*STATE, "rng_state.pth", "trainer_state.json"}}
"""Some of the files that each must have; all that there are get damaged."""


class Killed(BaseException):
    """As sudden as SIGKILL."""


class KilledReporter(Reporter):
    """Two checkpoints, of steps 4 and 8, and then the end."""

    def advance(self, at, epoch, num_examples):
        super().advance(at, epoch, num_examples)
        if at == 9:
            raise Killed


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"truncated": truncate, "emptied": empty, "removed": lambda path: path.unlink(), "flipped": flip_a_bit}


def result(job):
    return read_manifest(job.result).header["facts"]["weights_sha256"], (job.result / "metrics.jsonl").read_bytes()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "share", [pytest.param(1, marks=pytest.mark.slow, id="all-trained"), pytest.param(4, id="a-quarter-trained")]
)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_whichever_file_is_damaged_in_whichever_way_the_weights_are_the_same(
    engine, lora, share, tmp_path, make_job, train_here, caplog
):
    whole = make_job(tmp_path / "whole", engine=engine, lora=lora, **OPTIONS)
    train_here(whole)
    killed = make_job(tmp_path / "killed", engine=engine, lora=lora, **OPTIONS)
    with pytest.raises(Killed):
        train_here(killed, KilledReporter)
    checkpoint = Checkpoints(killed.work).at(8)
    files = sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())
    names = {str(file) for file in files}
    assert names >= SEALED[engine] | {"manifest.json", "metrics.jsonl", "position.json"}
    for number, (file, damage) in enumerate(product(files, DAMAGES)):
        job = killed.model_copy(update={"work": tmp_path / f"{file.name}-{damage}"})
        shutil.copytree(killed.work, job.work)
        DAMAGES[damage](Checkpoints(job.work).at(8) / file)
        caplog.clear()
        assert Checkpoints(job.work).find_newest() == Checkpoints(job.work).at(4), (file, damage)
        assert "checkpoint step-00000008" in caplog.text, (file, damage)
        if (number + number // 4) % share == 0:  # of each file another damage
            train_here(job)
            assert read_manifest(job.result).header["facts"]["resumed_from_step"] == 4
            assert result(job) == result(whole), (file, damage)
        shutil.rmtree(job.work)


@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_where_every_checkpoint_is_damaged_training_starts_again(engine, tmp_path, make_job, train_here, caplog):
    whole = make_job(tmp_path / "whole", engine=engine, **OPTIONS)
    train_here(whole)
    job = make_job(tmp_path / "killed", engine=engine, **OPTIONS)
    with pytest.raises(Killed):
        train_here(job, KilledReporter)
    for step in (4, 8):
        truncate(Checkpoints(job.work).at(step) / "optimizer-0.pt")
    train_here(job)
    assert "step-00000004" in caplog.text
    assert read_manifest(job.result).header["facts"]["resumed_from_step"] is None
    assert result(job) == result(whole)
