"""Models without weights, of which one can see what they are made of before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tunesmith.errors import ModelError
from tunesmith.kinds import Examples, find_kind
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.quiet import quiet_libraries
from tunesmith.modeling.tokenizer import OFFLINE, first_line


def build_skeleton(folder: Path, examples: Examples) -> AnyModel:
    """A base model with its head, all weights of which are on the meta device and take no memory.

    Args:
        folder: The base model's.
        examples: Decides which head the model has.

    Raises:
        ModelError: transformers knows no such model.
    """
    import transformers

    quiet_libraries()
    auto_class = getattr(transformers, find_kind(examples).AUTO_CLASS)
    with refusing(folder, examples), torch.device("meta"):
        return auto_class.from_config(transformers.AutoConfig.from_pretrained(folder, **OFFLINE))


@contextmanager
def refusing(folder: Path, examples: Examples) -> Iterator[None]:
    """Turn what transformers says of a model that it cannot load into a ModelError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: transformers cannot load it as a model for {examples.kind}: {first_line(error)}"
        ) from error


def find_heads(model: AnyModel) -> list[str]:
    """The names of the parts that are no part of a model's body, and have weights."""
    body = model.base_model_prefix
    return [name for name, part in model.named_children() if name != body and any(True for _ in part.parameters())]
