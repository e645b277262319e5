"""Several processes that train together. Each training here takes some seconds to start."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import distributed as dist

from killable_training import Told, Trainings, assert_same, kill_parent, kill_rank, stop_rank
from tiny_models import copy_without_dropout
from tunesmith.errors import CallError
from tunesmith.store.sealed import read_manifest
from tunesmith.training import processes
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.processes import check_devices, find_seed, share

SEVERAL = {"num_processes": 2, "num_epochs": 10}
"""150 steps: a second or more, of which a test can kill one."""


def read_rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        # The blocks of text have unlike numbers of tokens, and the last step of an epoch has nothing for one process.
        ("loop", {"generation": True, "gradient_accumulation_steps": 2}),
        ("trainer", {"generation": True, "gradient_accumulation_steps": 2}),
    ],
)
def test_two_processes_train_what_one_trains_on_batches_of_twice_the_size(
    engine, options, tmp_path, make_job, train_here, train_in_processes, llama
):
    base = copy_without_dropout(llama, tmp_path / "base")
    options = {**options, "engine": engine, "precision": "fp32", "num_epochs": 3}
    together = make_job(tmp_path / "two", num_processes=2, per_device_train_batch_size=2, **options)
    alone = make_job(tmp_path / "one", per_device_train_batch_size=4, **options)
    result = train_in_processes(together.model_copy(update={"base": base}))
    train_here(alone.model_copy(update={"base": base}))
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (result, alone.result))
    assert max(np.abs(ours[name] - theirs[name]).max() for name in theirs) < 1e-5
    rows = read_rows(result), read_rows(alone.result)
    assert [(row["step"], row["epoch"]) for row in rows[0]] == [(row["step"], row["epoch"]) for row in rows[1]]
    assert rows[0][-1]["step"] == 24
    for row, expected in zip(*rows, strict=True):
        assert row["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)


def count_weights(checkpoint, rank):
    weights = load_file(checkpoint / f"weights-{rank}.safetensors")
    return sum(values.size for name, values in weights.items() if name.endswith(("weight", "bias")))


def count_moments(checkpoint, rank):
    state = torch.load(checkpoint / f"optimizer-{rank}.pt", weights_only=True)["state"]
    return sum(value.numel() for values in state.values() for value in values.values() if value.ndim)


SHARDED = [
    # The blocks of text have unlike numbers of tokens, and the last step of an epoch has nothing for one process.
    ("loop", {"generation": True, "gradient_accumulation_steps": 2, "optimizer": "sgd", "learning_rate": 0.1}),
    ("loop", {"lora": True, "load_best_model_at_end": True, "max_micro_batch_tokens": 20}),
    ("trainer", {"generation": True, "gradient_accumulation_steps": 2}),
    ("trainer", {"lora": True, "load_best_model_at_end": True, "max_micro_batch_tokens": 20}),
]
"""Micro-batches that one process has and the other has not, and in training and in validation unlike numbers of parts;
weights that training does not change, all sharded."""


@pytest.mark.timeout(300)  # four processes that import torch, which takes a machine that does much else a minute
@pytest.mark.parametrize(("engine", "options"), SHARDED)
def test_sharded_models_are_trained_as_whole_ones_and_no_process_has_more_than_its_share(
    engine, options, tmp_path, make_job, train_in_processes
):
    options = {**options, "engine": engine, "precision": "fp32", "num_processes": 2, "per_device_train_batch_size": 2}
    jobs = [make_job(tmp_path / str(fsdp), fsdp=fsdp, **options) for fsdp in (True, False)]
    sharded, whole = (train_in_processes(job) for job in jobs)
    ours, theirs = (load_file(next(folder.glob("*/*model.safetensors"))) for folder in (sharded, whole))
    assert ours.keys() == theirs.keys()
    assert max(np.abs(ours[name] - theirs[name]).max() for name in theirs) < 1e-5
    for row, expected in zip(read_rows(sharded), read_rows(whole), strict=True):
        assert (row["step"], row["epoch"]) == (expected["step"], expected["epoch"])
        assert row["metrics"] == pytest.approx(expected["metrics"], rel=1e-4)
    checkpoint = Checkpoints(jobs[0].work).newest()
    num_trained = read_manifest(sharded).header["facts"]["num_trainable_parameters"]
    for count, numbers in ((count_weights, 1), (count_moments, 1 if "optimizer" in options else 2)):
        shares = [count(checkpoint, rank) for rank in range(2)]
        assert sum(shares) == num_trained * numbers
        assert max(shares) < 0.55 * sum(shares)


SMALL_DEVICE = """
import torch

def compute(self, model, batch):
    if model.training and batch["input_ids"].numel() > 20 and torch.distributed.get_rank() == 1:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return whole(self, model, batch)

from tunesmith.training.loss import Loss
whole, Loss.compute = Loss.compute, compute
"""
"""What each process runs at its start: the second has no room for more than 20 tokens at once."""


def test_sharded_processes_of_which_one_runs_out_of_memory_start_again_with_smaller_micro_batches(
    tmp_path, make_job, train_in_processes, monkeypatch, caplog
):
    options = {"fsdp": True, "num_processes": 2, "per_device_train_batch_size": 8, "precision": "fp32"}
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(SMALL_DEVICE)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "path"))
        result = train_in_processes(make_job(tmp_path / "small", **options))
    facts = read_manifest(result).header["facts"]
    assert facts["max_micro_batch_tokens"] <= 20
    assert f"at most {facts['max_micro_batch_tokens']} tokens go through the model at once" in caplog.text
    told = train_in_processes(
        make_job(tmp_path / "told", **options, max_micro_batch_tokens=facts["max_micro_batch_tokens"])
    )
    assert facts["weights_sha256"] == read_manifest(told).header["facts"]["weights_sha256"]


def test_sharded_processes_of_which_one_was_killed_end_with_the_same_weights(tmp_path, features, bert):
    results = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        trainings = Trainings(tmp_path / name, features, bert, fsdp=True, **SEVERAL)
        if name == "killed":
            kill_rank(trainings, 1)
        results.append(trainings.here())
    assert_same(*results)
    assert results[1].facts["resumed_from_step"] > 0


@pytest.mark.timeout(600)  # eight processes that import torch
def test_processes_that_were_stopped_and_killed_end_with_the_same_weights_and_leave_nobody_behind(
    tmp_path, features, bert
):
    told, told_at_the_end = Told(), Told()
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = Trainings(tmp_path / "whole", features, bert, **SEVERAL).here(told)
    assert whole.facts["num_processes"] == 2
    assert told.rows_seen == read_rows(whole.folder)
    trainings = Trainings(tmp_path / "killed", features, bert, **SEVERAL)
    kill_rank(trainings, 1)
    stop_rank(trainings, 1)
    kill_parent(trainings)
    ref = trainings.here(told_at_the_end)
    assert_same(ref, whole)
    assert ref.facts["resumed_from_step"] > 0
    assert told_at_the_end.rows_seen == told.rows_seen


def test_more_processes_than_gpus_are_refused_and_on_a_cpu_they_share_the_cores():
    with pytest.raises(CallError, match=r"train.num_processes is 2, but there is 1 GPU .*num_processes to 1 or less"):
        check_devices(2, "cuda", num_gpus=1)
    with pytest.raises(CallError, match=r"train.num_processes is 9, but there are 8 GPUs"):
        check_devices(9, "cuda", num_gpus=8)
    check_devices(2, "cpu", num_gpus=0)
    check_devices(8, "cuda", num_gpus=8)


def test_processes_on_an_apple_gpu_are_refused_as_they_could_not_add_up_their_gradients():
    with pytest.raises(CallError, match=r"num_processes is 2, .* this machine has mps. Set train.num_processes to 1"):
        check_devices(2, "mps", num_gpus=0)
    check_devices(1, "mps", num_gpus=0)


def test_nccl_takes_its_memory_before_anything_is_trained(monkeypatch, make_job, tmp_path):
    done, zeros = [], torch.zeros
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name in ("set_device", "synchronize"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda _device: None)
    monkeypatch.setattr("torch.zeros", lambda size, device: done.append(str(device)) or zeros(size))
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *_, name=name, **__: done.append(name))
    monkeypatch.setattr(dist, "all_reduce", lambda values: done.append(values.numel() * 4))
    with processes.join(make_job(tmp_path, num_processes=2), 1):
        done.append("training")
    init, first, small, second, large, *rest = done
    assert (init, first, second, large) == ("init_process_group", "cuda:1", "cuda:1", processes.BUCKET_BYTES)
    assert small < 1 << 16
    assert rest == ["training", "destroy_process_group"]


@given(num_items=st.integers(0, 20), count=st.integers(1, 5))
def test_the_shares_hold_each_item_once_and_differ_by_one_at_most(num_items, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "count_processes", lambda: count)
        shares = []
        for rank in range(count):
            patch.setattr(processes, "find_rank", lambda rank=rank: rank)
            shares.append([*share(range(num_items))])
    assert sorted(item for found in shares for item in found) == list(range(num_items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_process_draws_other_random_numbers(monkeypatch):
    assert find_seed(7) == 7
    seeds = set()
    for rank in range(100):
        monkeypatch.setattr(processes, "find_rank", lambda rank=rank: rank)
        seeds |= {find_seed(7), find_seed(8)}
    assert len(seeds) == 200
    assert max(seeds) < 2**32
