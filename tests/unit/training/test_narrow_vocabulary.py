"""A training without the embeddings of tokens that never come ends as one with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from tunesmith.features.batching import Features
from tunesmith.features.files import read_split
from tunesmith.store.sealed import read_manifest
from tunesmith.training import prepared
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.config import TrainConfig
from tunesmith.training.optimizer import build_optimizer, find_decay
from tunesmith.training.schedule import Schedule

EMBEDDING = "bert.embeddings.word_embeddings.weight"
DECAYING = {"precision": "fp32", "learning_rate": 0.01, "weight_decay": 0.5, "save_steps": 7}


def read_rows(job):
    return [json.loads(line)["metrics"] for line in (job.result / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_losses_and_weights_are_those_of_a_training_of_all_embeddings(
    engine, optimizer, make_job, train_here, tmp_path, monkeypatch, bert, features
):
    options = {**DECAYING, "engine": engine, "optimizer": optimizer}
    narrow, whole = make_job(tmp_path / "narrow", **options), make_job(tmp_path / "whole", **options)
    train_here(narrow)
    monkeypatch.setattr(prepared, "narrow_vocabulary", lambda model, is_present: 0)
    train_here(whole)
    for own, other in zip(read_rows(narrow), read_rows(whole), strict=True):
        assert own == pytest.approx(other, rel=1e-5, abs=1e-6)
    ours, theirs = (load_file(job.result / "model" / "model.safetensors") for job in (narrow, whole))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5, err_msg=name)

    size = len(ours[EMBEDDING])
    found = [Features(read_split(narrow.features, split)).find_tokens(size) for split in ("train", "validation")]
    occurs = np.logical_or(*found)
    occurs[narrow.pad_token_id] = True
    assert 0 < (~occurs).sum() < size
    base = load_file(bert / "model.safetensors")
    absent = next(values for name, values in base.items() if name.endswith("word_embeddings.weight"))[~occurs]
    assert np.abs(theirs[EMBEDDING][~occurs] - absent).max() > 0.001  # it did decay
    np.testing.assert_allclose(ours[EMBEDDING][~occurs], theirs[EMBEDDING][~occurs], rtol=1e-5)
    assert len(load_file(Checkpoints(narrow.work).newest() / "weights-0.safetensors")[EMBEDDING]) == occurs.sum()
    facts = [read_manifest(job.result).header["facts"] for job in (narrow, whole)]
    assert facts[0]["num_parameters"] == facts[1]["num_parameters"] == facts[1]["num_trainable_parameters"]
    left_out = facts[0]["num_parameters"] - facts[0]["num_trainable_parameters"]
    assert left_out == (~occurs).sum() * ours[EMBEDDING].shape[1]


@pytest.mark.parametrize("refused", [{"optimizer": "adafactor"}, {"lora": True}])
def test_where_it_would_change_the_training_or_gain_nothing_every_embedding_stays(
    refused, make_job, train_here, tmp_path
):
    job = make_job(tmp_path / "job", **{**DECAYING, "learning_rate": 1e-3, **refused})
    assert prepared.prepare(job).num_absent_tokens == 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("num_steps", [0, 1, 9])
def test_the_decay_is_what_torch_leaves_of_a_matrix_without_gradients(optimizer, num_steps):
    config = TrainConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.3, num_epochs=10)
    schedule = Schedule(config, np.ones(64))
    model = nn.Linear(3, 3, bias=False)
    before = model.weight.detach().clone()
    built = build_optimizer(model, config)
    scheduler = torch.optim.lr_scheduler.LambdaLR(built, schedule.learning_rate_factor)
    for _ in range(num_steps):
        model.weight.grad = torch.zeros_like(model.weight)
        built.step()
        scheduler.step()
    factor = find_decay(config, schedule.learning_rates(num_steps))
    assert num_steps < 2 or factor < 0.999
    torch.testing.assert_close(model.weight.detach(), before * factor, rtol=1e-5, atol=0)
