"""Base models in 4 bits, through bitsandbytes: what QLoRA trains an adapter on.

The weights of the linear layers are NF4 with double quantization: half a byte each, and 8 bits for the scale of 64.
Whatever is trained or judged computes with the values that these bits stand for, on every machine.
"""

from __future__ import annotations

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.kinds import Examples

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

AnyModel = Any

CONFIG_FILE = "quantization_config.json"
"""Beside an adapter: how its base model was quantized, as transformers' BitsAndBytesConfig takes it."""
_COMPUTE_DTYPE = "bnb_4bit_compute_dtype"


def check_installed() -> None:
    """Refuse to go on where bitsandbytes is not installed.

    Raises:
        ModelError: It is not; says how to install it.
    """
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.quantization: nf4 needs bitsandbytes, which is not installed. "
            "Install it: pip install 'tunesmith[qlora]'"
        )


def plan_quantization(folder: Path, examples: Examples) -> BitsAndBytesConfig:
    """Which layers of a base model become 4 bits: the linear ones, but neither its head nor its pooler.

    Both may be missing in the base model, and are trained then; 4 bits cannot be.

    Args:
        folder: The base model's.
        examples: Decides which head the model has.

    Raises:
        ModelError: transformers knows no such model, or bitsandbytes is not installed.
    """
    import transformers

    from tunesmith.modeling.skeleton import build_skeleton, find_heads

    check_installed()
    skeleton = build_skeleton(folder, examples)
    # transformers also matches ends of names, unless they are anchored.
    skipped = [f"^{name}" for name in (*find_heads(skeleton), f"{skeleton.base_model_prefix}.pooler")]
    make_config: Any = transformers.BitsAndBytesConfig  # transformers gives its constructor no types
    planned: BitsAndBytesConfig = make_config(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, llm_int8_skip_modules=skipped
    )
    return planned


def loading_options(quantization: BitsAndBytesConfig | None) -> dict[str, Any]:
    """What `from_pretrained` takes to quantize a model while it loads, and nothing where it is not to.

    It is quantized on the CPU, whatever it is trained on, so that all machines have the same bits.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if quantization is None:
        return {}
    check_installed()
    return {"quantization_config": quantization, "device_map": {"": "cpu"}}


def keep_exact(model: AnyModel) -> None:
    """Let a quantized model compute with its weights' own values in evaluation, too.

    On a CPU with avx512_bf16, bitsandbytes repacks the weights in place at the first evaluation, for a product that
    rounds to bfloat16: a small model fails, and the loss is that of another model.
    """
    for module in _quantized_layers(model).values():
        module.support_avx512bf16_for_cpu = False


def compute_in(model: AnyModel, dtype: torch.dtype) -> None:
    """Say what a quantized model's weights are unpacked to when they are used: the type of its matrix products."""
    for module in _quantized_layers(model).values():
        module.compute_dtype = dtype


def dequantize(model: AnyModel) -> AnyModel:
    """The plain model of the values that a quantized model's bits stand for; it is changed in place."""
    import torch
    from transformers import pytorch_utils

    make_transposed: Any = pytorch_utils.Conv1D  # transformers gives its constructor no types
    transposed = [
        name for name, module in _quantized_layers(model).items() if issubclass(module.source_cls, make_transposed)
    ]
    model.dequantize()
    for name in transposed:  # transformers leaves a linear layer, whose weights a plain model would take the wrong way
        linear = model.get_submodule(name)
        plain = make_transposed(linear.out_features, linear.in_features)
        plain.weight, plain.bias = torch.nn.Parameter(linear.weight.T.contiguous()), linear.bias
        model.set_submodule(name, plain.train(linear.training))
    return model


def count_weights(parameter: torch.Tensor) -> int:
    """How many weights a parameter holds; of a packed one, not how many bytes."""
    bitsandbytes = sys.modules.get("bitsandbytes")  # a packed one exists only where it was imported
    if bitsandbytes is not None and isinstance(parameter, bitsandbytes.nn.Params4bit):
        return math.prod(parameter.quant_state.shape)
    return parameter.numel()


def save_quantization(model: AnyModel, adapter: Path) -> None:
    """Write beside an adapter how its base model was quantized; not what this machine computed in."""
    asked = model.config.quantization_config.to_dict()
    kept = {name: value for name, value in asked.items() if not name.startswith("_") and name != _COMPUTE_DTYPE}
    (adapter / CONFIG_FILE).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_quantization(adapter: Path) -> BitsAndBytesConfig | None:
    """How the base model of an adapter was quantized; None where it was not."""
    import transformers

    path = adapter / CONFIG_FILE
    if not path.is_file():
        return None
    read: Any = transformers.BitsAndBytesConfig.from_dict  # transformers gives it no types
    quantization: BitsAndBytesConfig = read(json.loads(path.read_bytes()))
    return quantization


def _quantized_layers(model: AnyModel) -> dict[str, Any]:
    from bitsandbytes.nn.modules import Linear4bit

    return {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}
