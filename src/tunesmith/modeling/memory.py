"""How much memory a training takes before its activations, read from the headers of the weight files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from tunesmith.modeling.base import LoraConfig

WEIGHT_BYTES = 4
TRAINED_BYTES = 16
"""A trained parameter: fp32 weight, gradient and AdamW's two moments, 4 bytes each."""


def estimate_training_bytes(folder: Path, lora: LoraConfig | None) -> int:
    """Weights, gradients and optimizer state of a training, in bytes.

    Args:
        folder: The base model's folder.
        lora: The adapter that is trained instead of the weights, if any.
    """
    shapes = dict(_read_shapes(folder))
    num_parameters = sum(math.prod(shape) for shape in shapes.values())
    if lora is None:
        return num_parameters * TRAINED_BYTES
    adapted = [shape for name, shape in shapes.items() if len(shape) == 2 and _is_target(name, lora)]
    return num_parameters * WEIGHT_BYTES + sum(lora.r * sum(shape) for shape in adapted) * TRAINED_BYTES


def _is_target(name: str, lora: LoraConfig) -> bool:
    module = name.removesuffix(".weight")
    if lora.target_modules == "all-linear":
        return "embed" not in module
    return any(module == target or module.endswith(f".{target}") for target in lora.target_modules)


def _read_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield name, tuple(tensor["shape"])
