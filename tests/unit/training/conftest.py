"""Features and base models small enough to train in a second, and a way to train them in this process."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from killable_training import CLASSIFICATION
from moto_s3 import aws, bucket, connect, moto_url
from tiny_features import write_features
from tiny_models import make_bert, make_llama
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.store.ref import Ref
from tunesmith.training.checkpoints import Checkpoints, restore_quarantine
from tunesmith.training.config import TrainConfig
from tunesmith.training.job import Job
from tunesmith.training.launcher import launch
from tunesmith.training.lock import hold
from tunesmith.training.mirroring import Mirroring
from tunesmith.training.observer import GuardedObserver
from tunesmith.training.reporter import Reporter

__all__ = ["aws", "bucket", "connect", "moto_url"]

GENERATION = TextGeneration(kind="text-generation", text="text", max_new_tokens=8)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"), [f"w{number}" for number in range(60)])


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama"), ["once upon a time there was a tiny model"])


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Ref:
    return write_features(tmp_path_factory.mktemp("features"), bert, labels=("bad", "good"))


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Ref:
    return write_features(tmp_path_factory.mktemp("blocks"), llama, labels=())


@pytest.fixture
def make_job(bert: Path, llama: Path, features: Ref, blocks: Ref) -> Callable[..., Job]:
    """A job of 15 steps an epoch, whose rows and checkpoints fall on different steps."""

    def make(
        work: Path, *, lora: bool = False, generation: bool = False, quantization: Any = None, **train: Any
    ) -> Job:
        defaults = {"per_device_train_batch_size": 4, "num_epochs": 2, "logging_steps": 3, "save_steps": 4}
        work.mkdir(parents=True, exist_ok=True)
        ref = blocks if generation else features
        return Job(
            work=work,
            features=ref.folder,
            base=llama if generation else bert,
            examples=GENERATION if generation else CLASSIFICATION,
            labels=tuple(ref.facts["labels"]),
            pad_token_id=0,
            lora=LoraConfig(r=2, lora_dropout=0.1) if lora else None,
            quantization=quantization,
            train=TrainConfig(**{**defaults, "learning_rate": 1e-3, **train}),
            checkpoint=None,
            parent_pid=os.getpid(),
        )

    return make


@pytest.fixture
def train_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Do a job in this process, continuing from the newest checkpoint, as the training process would.

    Where a test asks for bf16, any machine emulates it; training itself refuses that.
    """
    from accelerate.state import AcceleratorState, PartialState

    monkeypatch.setattr("tunesmith.training.precision._CPUINFO", tmp_path / "no-cpuinfo")
    gc.collect()
    gc.freeze()  # Trainer looks for garbage in all that there is, seconds a training

    def train(job: Job, reporter_class: type[Reporter] = Reporter) -> None:
        from tunesmith.training.trained import save_result

        AcceleratorState._reset_state(True)
        PartialState._reset_state()
        job = job.model_copy(update={"checkpoint": Checkpoints(job.work).find_newest()})
        restore_quarantine(job.checkpoint, job.quarantine)
        reporter = reporter_class(job)
        engine = importlib.import_module(f"tunesmith.training.{job.train.engine}")
        save_result(job, engine.run(job, reporter), reporter.progress)

    yield train
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


@pytest.fixture
def train_in_processes() -> Callable[[Job], Path]:
    """Do a job in as many processes as it says, each of which takes some seconds to start."""

    def train(job: Job) -> Path:
        with hold(job.work) as lock:
            return launch(job, lock, "a key", GuardedObserver(None), {}, Mirroring(None))

    return train
