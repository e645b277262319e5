"""The gradient of a step, whatever the micro-batches that it is computed in."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from apple_gpu import AppleTensor
from tunesmith.errors import OutOfMemoryError, TrainingError
from tunesmith.store.sealed import read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.gradient import GradientSum, split_batch
from tunesmith.training.loss import Loss
from tunesmith.training.prepared import Step
from tunesmith.training.reporter import Reporter

ENGINES = pytest.mark.parametrize("engine", ["loop", "trainer"])


class Killed(BaseException):
    """As sudden as SIGKILL."""


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), max_tokens=st.integers(1, 40))
def test_a_batch_is_cut_in_parts_that_fit_and_hold_every_row_once(lengths, max_tokens):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.arange(mask.numel()).reshape(mask.shape)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(lengths))}
    parts = list(split_batch(batch, max_tokens))
    assert torch.cat([part["labels"] for part in parts]).tolist() == list(range(len(lengths)))
    for part in parts:
        num_rows, widest = part["input_ids"].shape
        assert num_rows * widest <= max_tokens or num_rows == 1
        rows = part["labels"]
        assert part["attention_mask"].any(dim=0).all()
        assert torch.equal(part["input_ids"], ids[rows, :widest])
        assert torch.equal(part["attention_mask"].sum(dim=1), mask[rows].sum(dim=1))


def train_where_memory_ends(engine, job, train_here, monkeypatch, max_tokens, reporter=Reporter):
    """Train as on a device with room for so many tokens at once, once a first micro-batch has taken what there was."""
    from tunesmith.training.prepared import prepare

    def prepare_for_a_small_device(job):
        prepared, calls = prepare(job), []

        def run_out(_module, _args, named, _output):  # when all of the pass has drawn its random numbers
            calls.append(1)
            if named["input_ids"].numel() > max_tokens and len(calls) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        prepared.model.register_forward_hook(run_out, with_kwargs=True)
        return prepared

    with monkeypatch.context() as patch:
        module = importlib.import_module(f"tunesmith.training.{engine}")
        patch.setattr(module, "prepare", prepare_for_a_small_device)
        train_here(job, reporter)


@ENGINES
@pytest.mark.parametrize("options", [{}, {"generation": True}])
def test_where_memory_runs_out_training_goes_on_as_if_the_micro_batches_had_been_smaller(
    engine, options, tmp_path, make_job, train_here, monkeypatch
):
    common = {"engine": engine, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 3, **options}
    job = make_job(tmp_path / "small", **common)

    class KilledReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == 3:
                self.stop()

    from tunesmith.errors import Preempted

    with pytest.raises(Preempted):  # what was learned about the memory is in the checkpoint
        train_where_memory_ends(engine, job, train_here, monkeypatch, 30, KilledReporter)
    train_where_memory_ends(engine, job, train_here, monkeypatch, 30)
    facts = read_manifest(job.result).header["facts"]
    assert 0 < facts["max_micro_batch_tokens"] <= 30

    told = make_job(tmp_path / "told", max_micro_batch_tokens=facts["max_micro_batch_tokens"], **common)
    train_here(told)
    assert facts["weights_sha256"] == read_manifest(told.result).header["facts"]["weights_sha256"]


@ENGINES
def test_an_example_that_does_not_fit_alone_is_told_with_its_length(
    engine, tmp_path, make_job, train_here, monkeypatch
):
    job = make_job(tmp_path, engine=engine)
    with pytest.raises(
        TrainingError, match=r"a single example of \d+ tokens does not fit .* Lower tokenize.max_length"
    ):
        train_where_memory_ends(engine, job, train_here, monkeypatch, 2)


@pytest.mark.parametrize("what", ["step", "validation"])
def test_what_a_pass_has_computed_is_gone_when_the_gpu_s_memory_is_given_back(what, monkeypatch):
    weights, graph, alive = torch.nn.Parameter(torch.ones(10)), [], []

    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask, labels):
            hidden = input_ids.float() @ weights.clone()
            graph.append(weakref.ref(hidden))
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return type("Output", (), {"loss": (hidden * labels[:, 0]).mean()})

    monkeypatch.setattr("torch.cuda.empty_cache", lambda: alive.append([ref() for ref in graph if ref() is not None]))
    batch = {name: torch.ones(4, 10, dtype=torch.long) for name in ("input_ids", "attention_mask", "labels")}
    gradient = GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), None, lambda _limit: None)
    gc.disable()
    try:
        if what == "step":
            gradient.add(Model(), Step([batch], 4, 40, 40, 1.0))
        else:
            with torch.no_grad():
                gradient.compute_loss(Model(), batch)
    finally:
        gc.enable()
    assert alive == [[]]


def test_a_sharded_model_s_step_cannot_begin_again_and_says_what_to_set():
    def run_out(**_batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    batch = {name: torch.ones(4, 10, dtype=torch.long) for name in ("input_ids", "attention_mask", "labels")}
    gradient = GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), None, print, is_sharded=True)
    with pytest.raises(OutOfMemoryError, match=r"40 tokens .* with train.fsdp .*tokens to 20 or less") as told:
        gradient.add(run_out, Step([batch], 4, 40, 40, 1.0, stand_in=batch))
    assert told.value.max_tokens == 20


def test_a_gpu_without_numbers_of_64_bits_has_the_same_gradient():
    ids = torch.arange(12).reshape(4, 3)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0]}
    found = []
    for kind in (torch.Tensor, AppleTensor):
        weights = torch.nn.Parameter(torch.ones(3))
        model = torch.nn.Module()
        model.register_parameter("weights", weights)

        def forward(input_ids, weights=weights, kind=kind, **_):
            return type("Output", (), {"loss": (input_ids.float() @ weights).as_subclass(kind).mean()})

        model.forward = forward
        gradient = GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), 6, print)
        loss = gradient.add(model, Step([batch, batch], 8, 24, 24, 1.0))
        found.append((float(loss), *weights.grad.tolist()))
    assert found[0] == found[1]
    assert found[0] == pytest.approx([16.5, 4.5, 5.5, 6.5])


@ENGINES
def test_the_limit_changes_memory_and_not_the_gradient(engine, tmp_path, make_job, train_here, llama):
    options = {"engine": engine, "generation": True, "per_device_train_batch_size": 8, "precision": "fp32"}
    whole = make_job(tmp_path / "whole", **options)
    parts = make_job(tmp_path / "parts", **options, max_micro_batch_tokens=20)
    for job in (whole, parts):
        train_here(job)
    ours, theirs = (load_file(job.result / "model" / "model.safetensors") for job in (whole, parts))
    assert max(np.abs(ours[name] - theirs[name]).max() for name in ours) < 1e-5
    assert read_manifest(parts.result).header["facts"]["max_micro_batch_tokens"] == 20


REAL = """
import resource, sys
from pathlib import Path
import torch
from tunesmith.training.config import TrainConfig
from tunesmith.training.gradient import GradientSum
from tunesmith.training.loss import Loss
from tunesmith.training.prepared import Step

torch.set_num_threads(1)
embedding, head = torch.nn.Embedding(10, 64), torch.nn.Linear(64, 50_000)

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = embedding, head
    def forward(self, input_ids, attention_mask, labels):
        logits = self.head(self.embedding(input_ids)).mean(dim=1)
        return type("Output", (), {"loss": torch.nn.functional.cross_entropy(logits, labels)})

def step(rows):
    ids = torch.ones(rows, 40, dtype=torch.long)
    return Step([{"input_ids": ids, "attention_mask": ids, "labels": ids[:, 0]}], rows, 40 * rows, 40 * rows, 1.0)

model, gradient = Model(), GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), None, print)
gradient.add(model, step(4))
expected, rows = head.weight.grad.clone(), 256
model.zero_grad()
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (1 << 30)  # 256 x 40 rows of 50,000 logits would take 2 GB
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
gradient.add(model, step(rows))
assert torch.allclose(head.weight.grad, expected, atol=1e-6)
print(gradient.max_tokens)
"""


def test_a_cpu_that_runs_out_of_memory_for_real_is_noticed():
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    *told, limit = [int(line) for line in done.stdout.split()]
    assert told[-1] == limit
    assert 40 <= limit < 256 * 40
