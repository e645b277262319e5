"""How much memory a training takes before its activations, read from the headers of the weight files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from tunesmith.errors import ModelError
from tunesmith.modeling.config import ALL_LINEAR, LoraConfig, Quantization

WEIGHT_BYTES = GRADIENT_BYTES = 4
"""Both are in fp32."""

NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
"""A weight takes 4 bits, the scale of 64 weights 8, and that of 256 scales 32."""

_NEVER_QUANTIZED = re.compile(r"embed|pooler|(^|\.)(lm_head|classifier|score|shared|wte|wpe)\.")
"""Embeddings, heads and poolers stay in fp32."""
_EXPERTS = re.compile(r"(^|\.)experts\.")
"""transformers puts the matrices of all experts of a layer into one, which bitsandbytes leaves as it is."""
MAX_EXPERTS_FRACTION = 0.1
"""What of a base model that is to be quantized may stay in fp32 for that reason."""
_HEAD = re.compile(r"(^|\.)(pre_classifier|classifier|classification_head|score)\.")
"""The parts of a classifier's head, which are trained in full beside an adapter."""
_EMBEDDING = re.compile(r"embed(?!_out\.)|\bwte\b")
"""All but what GPT-NeoX calls its output layer."""


def estimate_training_bytes(
    folder: Path, lora: LoraConfig | None, state_bytes: int, quantization: Quantization | None = None
) -> int:
    """Weights, gradients and optimizer state of a training, in bytes.

    Args:
        folder: The base model's folder.
        lora: The adapter that is trained instead of the weights, if any.
        state_bytes: What the optimizer keeps of each trained parameter.
        quantization: How the weights of the linear layers are stored.
    """
    trained_bytes = WEIGHT_BYTES + GRADIENT_BYTES + state_bytes
    shapes = dict(_read_shapes(folder))
    if lora is None:
        return sum(math.prod(shape) for shape in shapes.values()) * trained_bytes
    prefix = _find_prefix(shapes)
    head = sum(math.prod(shape) for name, shape in shapes.items() if _HEAD.search(name))
    body = {name: shape for name, shape in shapes.items() if not _HEAD.search(name)}
    adapted = [shape for name, shape in body.items() if len(shape) == 2 and _is_target(name, lora, prefix)]
    stored = sum(math.prod(shape) * _weight_bytes(name, shape, quantization) for name, shape in body.items())
    return math.ceil(stored) + (head + sum(lora.r * sum(shape) for shape in adapted)) * trained_bytes


def _weight_bytes(name: str, shape: tuple[int, ...], quantization: Quantization | None) -> float:
    if quantization is None or _stays_whole(name, shape) or _NEVER_QUANTIZED.search(name):
        return WEIGHT_BYTES
    return NF4_BYTES


def _stays_whole(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) != 2 or _EXPERTS.search(name) is not None


def has_matrices_alone(folder: Path) -> bool:
    """Whether a base model is one of plain layers, to any of which peft can add an adapter."""
    return not any(len(shape) > 2 or _EXPERTS.search(name) for name, shape in _read_shapes(folder))


def check_quantizable(folder: Path) -> None:
    """Refuse to quantize a base model most of which would stay as it is: a mixture of experts.

    Raises:
        ModelError: It is one; says how much would stay in fp32, and what to do.
    """
    shapes = dict(_read_shapes(folder))
    experts = sum(math.prod(shape) for name, shape in shapes.items() if len(shape) > 2 or _EXPERTS.search(name))
    fraction = experts / sum(math.prod(shape) for shape in shapes.values())
    if fraction > MAX_EXPERTS_FRACTION:
        raise ModelError(
            f"model.quantization: {folder} is a mixture of experts, which are not stored in 4 bits: {fraction:.0%} of "
            f"its weights would stay in fp32, {experts * WEIGHT_BYTES / 2**30:.1f} GiB. Choose a base model without "
            "experts, or remove model.quantization and train the adapter on the whole weights."
        )


def check_targets(folder: Path, lora: LoraConfig) -> None:
    """Refuse an adapter for layers that the base model has not: seen from its files, before anything is loaded.

    Raises:
        ModelError: A name or the expression of `target_modules` fits no weight.
    """
    shapes = dict(_read_shapes(folder))
    prefix = _find_prefix(shapes)
    matrices = [name for name, shape in shapes.items() if len(shape) == 2 and name.endswith(".weight")]
    asked = [lora.target_modules] if isinstance(lora.target_modules, str) else [(name,) for name in lora.target_modules]
    for target in asked:
        alone = lora.model_copy(update={"target_modules": target})
        if not matrices or any(_is_target(name, alone, prefix) for name in matrices):
            continue
        names = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in matrices if "embed" not in name})
        named = repr(target if isinstance(target, str) else target[0])
        near = get_close_matches(named.strip("'"), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelError(
            f"model.lora.target_modules: {folder} has no layer {named}.{hint} Its matrices are called "
            f"{', '.join(names)}. Write all-linear, a list of names, or a regular expression for whole names, such as "
            f"'.*{names[0]}'."
        )


def _is_target(name: str, lora: LoraConfig, prefix: str) -> bool:
    module, targets = name.removesuffix(".weight"), lora.target_modules
    if targets == ALL_LINEAR:
        return "embed" not in module
    if isinstance(targets, str):
        return any(re.fullmatch(targets, name) for name in _find_names(module, prefix, targets))
    return any(
        name == target or name.endswith(f".{target}")
        for target in targets
        for name in _find_names(module, prefix, target)
    )


def _find_names(module: str, prefix: str, target: str) -> set[str]:
    """What a layer may be called: with the name of the model's body in front, which its file may leave out."""
    if prefix:
        return {module, module.removeprefix(f"{prefix}.")}
    first = re.match(r"(\w+)\\?\.", target)  # of a name or of an expression
    return {module} if first is None else {module, f"{first[1]}.{module}"}


def _find_prefix(names: Iterable[str]) -> str:
    """The name of the model's body in its file, `bert` or `model`; empty where the file leaves it out."""
    embeddings = [name.partition(".") for name in names if _EMBEDDING.search(name)]
    firsts = {first for first, _, rest in embeddings}
    is_own = all(_EMBEDDING.search(rest) for _, _, rest in embeddings)
    return firsts.pop() if len(firsts) == 1 and is_own else ""


def _read_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield name, tuple(tensor["shape"])
