"""Whether a registered model can be gone on from, and with which of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.kinds import Examples
from tunesmith.kinds.labels import name_some
from tunesmith.modeling.config import ModelConfig
from tunesmith.tracking.lineage import ADAPTER, MODEL, Lineage
from tunesmith.tracking.registry import RegisteredVersion

FREE_TO_CHANGE = frozenset({"lora_dropout"})
"""What of the section on the adapter does not shape its weights."""
START_ANEW = "Set model.start: base for one run; once its candidate is the champion, later runs go on from that."


def find_part(model: ModelConfig, lineage: Lineage) -> str:
    """What training begins from: the adapter, where one is to be trained on and there is one; else the whole model.

    Not an adapter that was trained on quantized weights: with those of the recipe's base model, it is another model.
    """
    training = lineage.training
    goes_on = model.lora is not None and training.lora is not None and training.quantization is None
    return ADAPTER if goes_on else MODEL


def check_fit(
    version: RegisteredVersion,
    lineage: Lineage,
    examples: Examples,
    labels: Sequence[str],
    model: ModelConfig,
    base: str,
) -> None:
    """Refuse a version that the recipe cannot go on from.

    Args:
        version: The version.
        lineage: What it says of its training.
        examples: The kind of task.
        labels: The label set of the rows, in id order.
        model: What the recipe says of the model.
        base: The digest of the recipe's base model.

    Raises:
        ModelError: It is for another kind of task, another base model, other labels, or has another adapter.
    """
    training = lineage.training
    if training.kind != examples.kind:
        raise ModelError(
            f"model.start: {version.uri} is for {training.kind}, the recipe for {examples.kind}. "
            "Register the two under different names: set registry.model_name."
        )
    if training.base != base:
        raise ModelError(
            f"model.start: {version.uri} was trained from another base model than model.base, {model.base}, is. "
            f"{START_ANEW} Or name the base model that it came from."
        )
    if training.labels != tuple(labels):
        raise ModelError(
            f"model.start: {version.uri} knows the labels {name_some(training.labels)}; the rows have "
            f"{name_some(labels)}. A head for other labels begins at random, and forgets. {START_ANEW} "
            "Where rows of a label are only missing, list all labels in examples.labels."
        )
    if find_part(model, lineage) == ADAPTER and model.lora is not None and training.lora is not None:
        _check_adapter(version, training.lora, model.lora.key_fields())


def _check_adapter(version: RegisteredVersion, has: dict[str, Any], asked: dict[str, Any]) -> None:
    differing = sorted(name for name in {*has, *asked} - FREE_TO_CHANGE if has.get(name) != asked.get(name))
    if differing:
        what = ", ".join(f"{name} {has.get(name)!r}, not {asked.get(name)!r}" for name in differing)
        raise ModelError(
            f"model.lora: the adapter of {version.uri}, which model.start would go on from, has {what}. Write what it "
            f"has. Or else: {START_ANEW}"
        )
