"""Both engines on a stream, stopped and killed in this process: quick, and the same weights to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from killable_training import CLASSIFICATION
from streamed_features import stream_features
from tiny_models import copy_without_dropout
from tunesmith.errors import Preempted
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.store.sealed import read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.reporter import Reporter
from tunesmith.training.train import _describe_job

OPTIONS = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "max_steps": 50, "validation_steps": 18}


class Killed(BaseException):
    """As sudden as SIGKILL."""


@pytest.fixture(scope="module")
def streamed(tmp_path_factory, bert):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield stream_features(tmp_path_factory.mktemp("stream"), bert, monkeypatch)


@pytest.fixture
def make_job(bert, streamed):
    def make(work, *, quantization=None, **options):
        work.mkdir(parents=True)
        config = TrainConfig(**{**OPTIONS, "logging_steps": 4, "save_steps": 5, **options})
        model = ModelConfig(base=str(bert), lora=quantization and LoraConfig(r=2), quantization=quantization)
        base = find_base(model).folder
        return _describe_job(work, streamed.features, CLASSIFICATION, model, config, base, streamed.stream)

    return make


def ended_after(step, *, kills):
    class EndedReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == step and kills:
                raise Killed
            if at == step:
                self.stop()

    return EndedReporter


def result(job):
    facts = read_manifest(job.result).header["facts"]
    return facts["weights_sha256"], facts["quarantine"], (job.result / "metrics.jsonl").read_bytes()


def read_rows(job):
    return [json.loads(line) for line in (job.result / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def read_as_for_a_gpu(monkeypatch):
    """Steps are made ahead; there is nothing to pin."""

    def prepare_and_read_ahead(job):
        return replace(prepare(job), reads_ahead=True)

    def start():
        from tunesmith.training import loop, prepared, trainer

        monkeypatch.setattr(prepared, "_pin", lambda step: step)
        for engine in (loop, trainer):
            monkeypatch.setattr(engine, "prepare", prepare_and_read_ahead)

    from tunesmith.training.prepared import prepare

    return start


@pytest.mark.parametrize("engine", ["loop", "trainer"])
@pytest.mark.parametrize(
    ("accumulation", "quantization", "is_read_ahead"),
    [(1, None, False), (3, None, False), (1, "nf4", False), (3, None, True)],
)
def test_a_stream_that_is_ended_anywhere_goes_on_as_if_it_was_not(
    tmp_path, make_job, train_here, read_as_for_a_gpu, engine, accumulation, quantization, is_read_ahead
):
    options = {"engine": engine, "gradient_accumulation_steps": accumulation, "quantization": quantization}
    whole = make_job(tmp_path / "whole", **options)
    train_here(whole)
    ended = make_job(tmp_path / "ended", **options)
    if is_read_ahead:
        read_as_for_a_gpu()
    for step, kills in ((7, True), (12, False), (18, True), (19, False), (36, False), (41, True), (50, True)):
        with pytest.raises((Killed, Preempted)):
            train_here(ended, ended_after(step, kills=kills))
    train_here(ended)
    assert result(ended) == result(whole)
    rows = read_rows(whole)
    assert [row["step"] for row in rows if "validation/loss" in row["metrics"]] == [18, 36, 50]
    epochs = [row["epoch"] for row in rows]
    assert epochs == sorted(epochs)
    assert 0 < epochs[0] < epochs[-1]


def test_both_engines_train_a_stream_to_the_same_losses_where_there_is_no_dropout(tmp_path, make_job, train_here, bert):
    base = copy_without_dropout(bert, tmp_path / "base")
    rows = []
    for engine in ("loop", "trainer"):
        job = make_job(tmp_path / engine, engine=engine, precision="fp32").model_copy(update={"base": base})
        train_here(job)
        rows.append(read_rows(job))
    assert [(row["step"], row["epoch"]) for row in rows[0]] == [(row["step"], row["epoch"]) for row in rows[1]]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-4)


def test_two_processes_train_on_a_stream_what_one_does_on_batches_of_twice_the_size(
    tmp_path, make_job, train_here, train_in_processes, bert
):
    base = copy_without_dropout(bert, tmp_path / "base")
    options = {"precision": "fp32", "gradient_accumulation_steps": 2}
    together = make_job(tmp_path / "two", num_processes=2, **options)
    alone = make_job(tmp_path / "one", per_device_train_batch_size=4, **options)
    train_in_processes(together.model_copy(update={"base": base}))
    train_here(alone.model_copy(update={"base": base}))
    rows = [read_rows(job) for job in (together, alone)]
    assert [(row["step"], row["epoch"]) for row in rows[0]] == [(row["step"], row["epoch"]) for row in rows[1]]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5)
    quarantines = [read_manifest(job.result).header["facts"]["quarantine"] for job in (together, alone)]
    assert quarantines[0] == quarantines[1]
    assert quarantines[0]["num_rows"] > 0
