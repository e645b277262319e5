"""What the training process is asked to do, as one JSON file, and where its files lie."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tunesmith.kinds import Examples
from tunesmith.modeling.base import LoraConfig
from tunesmith.training.config import TrainConfig


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
    train: TrainConfig
    """How to train."""
    checkpoint: Path | None
    """The verified checkpoint to continue from."""
    parent_pid: int
    """The process that started this one; when it is gone, training stops."""

    @property
    def spool(self) -> Path:
        """The rows so far."""
        return self.work / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        """How far training is; replaced a few times a second."""
        return self.work / "progress.json"

    @property
    def error(self) -> Path:
        """What went wrong, where it can be told in words."""
        return self.work / "error.json"

    @property
    def log(self) -> Path:
        """All that the process and its libraries print."""
        return self.work / "worker.log"

    @property
    def result(self) -> Path:
        """The sealed folder with the trained model; it appears last."""
        return self.work / "result"
