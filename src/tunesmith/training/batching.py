"""How a training deals with examples of different length: by packing, by grouping, or by padding."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, NamedTuple

from tunesmith.errors import ModelError
from tunesmith.training.config import TrainConfig

PACKING = "tunesmith.modeling.packing"
"""Imported by name: a training that does not pack does not depend on that code."""


class Batching(NamedTuple):
    """The way that was chosen.

    Attributes:
        way: See `TrainConfig.batching`.
        why: For what reason, for a person.
    """

    way: Literal["packed", "grouped", "padded"]
    why: str


def may_pack(config: TrainConfig, *, has_padding: bool) -> bool:
    """Whether a training packs if its model can be packed.

    Args:
        config: The recipe's section.
        has_padding: Whether examples of the kind differ in length.
    """
    return config.batching == "packed" or (config.batching == "auto" and has_padding and not config.compile)


def choose_batching(config: TrainConfig, model: Any, *, has_padding: bool) -> Batching:
    """Settle `auto`, and pack the model where that is the way.

    Args:
        config: The recipe's section.
        model: The model that will be trained; packed, it takes and gives what it took and gave.
        has_padding: Whether examples of the kind differ in length.

    Raises:
        ModelError: Packing is asked for, and the model cannot be packed.
    """
    if may_pack(config, has_padding=has_padding):
        try:
            first_alone = import_module(PACKING).pack_body(model)
        except ModelError as error:
            if config.batching == "packed":
                raise
            return Batching("grouped", str(error))
        why = "the model computes without padding"
        return Batching("packed", why + (", its last layer for the first tokens alone" if first_alone else ""))
    if config.batching != "auto":
        return Batching(config.batching, "asked for")
    if not has_padding:
        return Batching("padded", "the examples are equally long")
    return Batching("grouped", "a compiled model is not packed")
