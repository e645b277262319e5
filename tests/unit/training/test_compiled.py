"""A compiled model: the same training, and the same weights however it was killed. Compiling takes most of the time."""

from __future__ import annotations

import json

import pytest
import torch

from tiny_models import copy_without_dropout
from tunesmith.errors import CallError
from tunesmith.store.sealed import read_manifest
from tunesmith.training import prepared
from tunesmith.training.reporter import Reporter

# torch 2.13's compiler uses what torch 2.13 deprecates; gone when it does not
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Killed(BaseException):
    """As sudden as SIGKILL."""


class KilledReporter(Reporter):
    def advance(self, at, epoch, num_examples):
        super().advance(at, epoch, num_examples)
        if at == 6:
            raise Killed


def losses(job):
    rows = [json.loads(line) for line in (job.result / "metrics.jsonl").read_text().splitlines()]
    return [row["metrics"]["train/loss"] for row in rows if "train/loss" in row["metrics"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "has_dropout"), [("loop", False), pytest.param("trainer", True, marks=pytest.mark.slow)]
)
def test_a_compiled_training_is_the_same_one_however_it_was_killed(
    engine, has_dropout, tmp_path, make_job, train_here, monkeypatch, bert
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    base = bert if has_dropout else copy_without_dropout(bert, tmp_path / "base")

    def make(name, **options):
        options |= {"engine": engine, "precision": "fp32", "batching": "grouped", "max_steps": 9, "num_epochs": 1}
        return make_job(tmp_path / name, **options).model_copy(update={"base": base})

    plain, whole, killed = make("plain"), make("whole", compile=True), make("killed", compile=True)
    graphs = []
    monkeypatch.setattr(
        prepared, "_compile", lambda model: model.compile(dynamic=True, backend=_counting_inductor(graphs))
    )
    for job in (plain, whole):
        torch._dynamo.reset()
        train_here(job)
    torch._dynamo.reset()
    with pytest.raises(Killed):
        train_here(killed, KilledReporter)
    torch._dynamo.reset()
    train_here(killed)
    assert graphs
    if not has_dropout:  # its random numbers are others when it is compiled
        assert losses(whole) == pytest.approx(losses(plain), abs=1e-4)
    sums = [read_manifest(job.result).header["facts"]["weights_sha256"] for job in (whole, killed)]
    assert sums[0] == sums[1]


def _counting_inductor(graphs):
    from torch._inductor.compile_fx import compile_fx

    def compile_and_count(graph, inputs):
        graphs.append(graph)
        return compile_fx(graph, inputs)

    return compile_and_count


def test_without_a_compiler_it_is_refused_before_training(tmp_path, make_job, train_here, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CallError, match=r"no compiler .*looked for g\+\+, clang\+\+.* train.compile to false"):
        train_here(make_job(tmp_path / "work", compile=True))
