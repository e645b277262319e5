"""What the training process is asked to do, as one JSON file, and where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.kinds import Examples
from tunesmith.modeling.config import LoraConfig, Quantization
from tunesmith.training.config import TrainConfig


class StreamJob(BaseModel):
    """What a training on a stream reads; plain values, so that what reads data is no part of other trainings' code."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    snapshot: Path
    """The folder of the snapshot artifact."""
    files: tuple[dict[str, Any], ...]
    """The files, as they were fetched."""
    data: dict[str, Any]
    """The recipe's section on the data; what it leaves out is as by default."""
    split: dict[str, Any]
    """The recipe's section on the split, likewise."""
    limit: dict[str, Any]
    """How long an example may be."""


class Job(BaseModel):
    """A training to do. The paths are absolute."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    work: Path
    """The work folder; its lock is held as long as the process lives."""
    features: Path
    """The folder of the encode artifact."""
    base: Path
    """The folder of the base model."""
    examples: Examples
    """The kind of task and its columns."""
    labels: tuple[str, ...]
    """The label set in id order."""
    pad_token_id: int
    """What fills up the shorter rows of a batch."""
    lora: LoraConfig | None
    """The adapter to train; without it, every weight is trained."""
    quantization: Quantization | None = None
    """How the base model's linear layers are stored while the adapter is trained."""
    train: TrainConfig
    """How to train."""
    adapter: Path | None = None
    """The folder of the adapter to go on from; without it, a new one is trained, if any."""
    merges: bool = False
    """Whether the trained adapter goes into the weights, because `base` is a model that was trained itself."""
    leaves_rows_out: bool = False
    """Whether `features` are not those of the whole train split, because `base` or `adapter` has seen the others."""
    checkpoint: Path | None
    """The verified checkpoint to continue from."""
    known_limit: int | None = None
    """Most tokens that may go through the model at once, because more of them ended an earlier attempt."""
    parent_pid: int
    """The process that started this one; when it is gone, training stops."""
    stream: StreamJob | None = None
    """Where the training examples come from, when not from the features."""

    @property
    def spool(self) -> Path:
        """The rows so far."""
        return self.work / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        """How far training is; replaced a few times a second."""
        return self.work / "progress.json"

    @property
    def quarantine(self) -> Path:
        """What the contract refuses of a stream."""
        return self.work / "quarantine"

    @property
    def error(self) -> Path:
        """What went wrong, where it can be told in words."""
        return self.work / "error.json"

    @property
    def logs(self) -> list[Path]:
        """All that each process and its libraries print."""
        others = range(1, self.train.num_processes)
        return [self.work / "worker.log", *(self.work / f"worker-{rank}.log" for rank in others)]

    @property
    def rendezvous(self) -> Path:
        """Where processes that train together find each other."""
        return self.work / "rendezvous"

    @property
    def result(self) -> Path:
        """The sealed folder with the trained model; it appears last."""
        return self.work / "result"
