"""Adapters: which layers get one, and which parts of a model are trained in full beside it."""

from __future__ import annotations

import re
from collections.abc import Set
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.kinds import Examples, find_kind
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.config import ALL_LINEAR, LoraConfig
from tunesmith.modeling.skeleton import build_skeleton, find_heads
from tunesmith.modeling.tokenizer import first_line

_MAMBA_TYPES = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
"""Model types whose layers hand the weights of their `out_proj` to a kernel, past any adapter; peft refuses one."""


def try_adapter(folder: Path, examples: Examples, lora: LoraConfig) -> None:
    """Add an adapter to a base model without its weights, to see whether peft can.

    Args:
        folder: The base model's.
        examples: Decides which head the model has.
        lora: The adapter.

    Raises:
        ModelError: It cannot; says why.
    """
    add_adapter(build_skeleton(folder, examples), frozenset(), examples, lora)


def add_adapter(model: AnyModel, random_weights: Set[str], examples: Examples, lora: LoraConfig) -> AnyModel:
    """A peft model that trains a new adapter, and in full what is saved beside it: the head, and what is random.

    Args:
        model: The base model, or its skeleton.
        random_weights: The names of its weights that were not in its files.
        examples: Which head it has.
        lora: The adapter.

    Raises:
        ModelError: peft cannot put this adapter on this model, or it names layers that are not there.
    """
    import peft

    config = peft.LoraConfig(
        modules_to_save=_find_own(model, random_weights, examples) or None,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        target_modules=_find_targets(model, lora),
        exclude_modules=_find_excluded(model, lora),
        task_type=find_kind(examples).PEFT_TASK_TYPE,
    )
    try:
        return peft.get_peft_model(model, config, low_cpu_mem_usage=model.device.type == "meta")
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(
            f"model.lora: peft puts no such adapter on a model of the type {model.config.model_type}: "
            f"{first_line(error).rstrip('.')}. Change model.lora, or remove it to train every weight."
        ) from error


def _find_own(model: AnyModel, random_weights: Set[str], examples: Examples) -> list[str]:
    """The parts of a model that are trained in full and saved with its adapter.

    A classifier's are all of its head, whether its base model has one or not: peft itself takes a head that is called
    `classifier` or `score`, and DistilBERT's other part, `pre_classifier`, for the same by the end of its name.
    """
    body = f"{model.base_model_prefix}."
    heads = find_heads(model) if "labels" in type(examples).model_fields else []
    return sorted({*heads, *(name.removeprefix(body).partition(".")[0] for name in random_weights)})


def take_weights(model: AnyModel, adapter: Path) -> None:
    """Give an adapter the weights of another, which has the same names and shapes.

    Args:
        model: A peft model.
        adapter: The folder of the other.

    Raises:
        ModelError: It has other names or shapes.
    """
    import peft
    from safetensors.torch import load_file

    path = adapter / "adapter_model.safetensors"
    saved = load_file(path)
    own = peft.get_peft_model_state_dict(model)
    differing = sorted(
        name for name in {*own, *saved} if name not in own or name not in saved or own[name].shape != saved[name].shape
    )
    if differing:
        raise ModelError(
            f"{path}: is another adapter than model.lora asks for: {len(differing)} weights differ in name or shape "
            f"({', '.join(differing[:3])}). Set model.start: base."
        )
    peft.set_peft_model_state_dict(model, saved)


def _find_targets(model: AnyModel, lora: LoraConfig) -> str | list[str]:
    """What peft looks for: its word for all linear layers, the recipe's names, or those that an expression matches."""
    if lora.target_modules == ALL_LINEAR:
        return ALL_LINEAR
    body = f"{model.base_model_prefix}."
    linear = [name for name in _linear_layers(model) if name.startswith(body)]
    valid = sorted({name.rpartition(".")[2] for name in linear})
    there_are = f"Its linear layers: {', '.join(valid)}; or write all-linear."
    if isinstance(lora.target_modules, str):
        names = {name: (name, name.removeprefix(body)) for name in linear}
        found = [name for name in linear if any(re.fullmatch(lora.target_modules, own) for own in names[name])]
        if not found:
            raise ModelError(
                f"model.lora.target_modules: the regular expression {lora.target_modules!r} matches no linear layer; "
                f"whole names are matched, such as {linear[0]!r}. {there_are}"
            )
        return found
    for target in lora.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            near = get_close_matches(target, valid, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ModelError(f"model.lora.target_modules: the model has no linear layer {target!r}.{hint} {there_are}")
    return list(lora.target_modules)


def _linear_layers(model: AnyModel) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]


def _find_excluded(model: AnyModel, lora: LoraConfig) -> list[str] | None:
    if lora.target_modules != ALL_LINEAR or model.config.model_type not in _MAMBA_TYPES:
        return None
    return ["out_proj"]
