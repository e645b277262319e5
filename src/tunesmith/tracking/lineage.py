"""What a registered version says of its training, so that another one can go on from it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict

LINEAGE_TAG = "tunesmith.lineage"
START_TAG = "tunesmith.start"
"""The same for a person: what the training began from."""
ROWS_FILE = "rows.u64"
"""The set of rows that a model was trained on, those of the models that it began from included."""


MODEL, ADAPTER = "model", "adapter"
"""The folders of a version: the whole model, its adapter merged into it; and the adapter alone."""


class StartPoint(BaseModel):
    """The registered version whose weights a training began from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    candidate: str
    """The key of its train artifact."""
    version: int
    """Its number, in the registry that was asked."""
    digest: str
    """Its weights, and the rows that it has seen."""


class Training(BaseModel):
    """How a candidate came to be, as far as it matters to one that goes on from it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: str
    """The kind of task."""
    base: str
    """The digest of the base model that the recipe named."""
    labels: tuple[str, ...]
    """The label set in id order."""
    lora: dict[str, Any] | None
    """The recipe's section on the adapter, where the candidate is one; None where it is a full model."""
    quantization: str | None = None
    """How the base model was stored while the adapter was trained."""
    rows: str | None
    """The digest of the set of rows that it was trained on itself; None of a stream, whose rows nobody has together."""
    seen: str | None
    """The sha256 of ROWS_FILE."""
    start: StartPoint | None
    """What it began from; None where that was the base model."""


class Lineage(BaseModel):
    """A candidate's training, and the files that the registry has of it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    training: Training
    """How it came to be."""
    export: str
    """The key of the export artifact, which holds the same files."""
    files: dict[str, str]
    """The digest of each folder of the export, by its name: `model`, and of the other formats those that were shipped,
    such as `onnx`; where the model is registered as an adapter alone, `adapter` and no other."""
    temperature: float | None = None
    """What divides its logits; None where nothing does."""

    @property
    def part(self) -> str:
        """The folder that the version is served from: `model`, or `adapter` where it is registered as that alone."""
        return find_served_part(self.files)


def find_served_part(files: Collection[str]) -> str:
    """The folder of an export that a version is served from, by the names of its folders."""
    return ADAPTER if MODEL not in files and ADAPTER in files else MODEL


def describe_start(training: Training) -> str:
    """What a training began from, in words."""
    return "the base model" if training.start is None else f"version {training.start.version}"
