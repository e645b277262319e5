"""Models, loaded quietly, offline, from safetensors and without remote code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.kinds import Examples, find_kind
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.adapter import add_adapter, take_weights
from tunesmith.modeling.base import find_weights
from tunesmith.modeling.config import LoraConfig, Quantization
from tunesmith.modeling.probes import check_causal, check_ignores_padding
from tunesmith.modeling.quantize import (
    count_weights,
    dequantize,
    keep_exact,
    loading_options,
    plan_quantization,
    read_quantization,
)
from tunesmith.modeling.quiet import quiet_libraries
from tunesmith.modeling.skeleton import refusing
from tunesmith.modeling.tokenizer import OFFLINE, has_own_padding, load_tokenizer, pad_token_id
from tunesmith.modeling.vocabulary import find_embedding

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedTokenizerBase

__all__ = [
    "build_model",
    "count_parameters",
    "load_adapted",
    "load_on_original",
    "load_tokenizer",
    "load_trained",
    "merge",
    "pad_token_id",
]


def build_model(
    base: Path,
    examples: Examples,
    labels: Sequence[str],
    lora: LoraConfig | None,
    seed: int,
    *,
    adapter: Path | None = None,
    quantization: Quantization | None = None,
) -> AnyModel:
    """A model that is ready to be trained.

    Args:
        base: The base model's folder.
        examples: Decides which head the model has.
        labels: The label set in id order; empty for a kind without labels.
        lora: The adapter to train, or None to train every weight.
        seed: Decides every weight that the base model does not have; the global generator stays as it is.
        adapter: The folder of a trained adapter of the same shape, whose weights are taken; without it, it is new.
        quantization: How the base model's linear layers are stored; only with `lora`.

    Returns:
        The model in training mode, its weights in fp32 unless they are quantized. With `lora`, a peft model that trains
        the adapter and the head.

    Raises:
        ModelError: The base model has no such head, lacks weights, reads what it must not (see `probes`), `lora` names
            layers that it does not have, or `adapter` is of another shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plan = None if quantization is None else plan_quantization(base, examples)
        model, random_weights = _load(base, examples, labels, plan)
        check = check_ignores_padding if labels else check_causal
        check(model, load_tokenizer(base), base)
        model.train()
        if lora is None:
            return model
        adapted = add_adapter(model, random_weights, examples, lora)
        if adapter is not None:
            take_weights(adapted, adapter)
        return adapted


def load_trained(candidate: Path, base: Path, examples: Examples, labels: Sequence[str]) -> AnyModel:
    """The model of a train artifact: its own weights, or the base model with its adapter.

    Args:
        candidate: The artifact's folder, with `model/` or `adapter/`.
        base: The folder of the base model that it was trained from.
        examples: Decides which head the model has.
        labels: The label set in id order.

    Returns:
        The model in evaluation mode, in fp32.
    """
    if (candidate / "model").is_dir():
        return _load(candidate / "model", examples, labels)[0].eval()
    return load_adapted(candidate / "adapter", base, examples, labels)


def load_adapted(adapter: Path, base: Path, examples: Examples, labels: Sequence[str]) -> AnyModel:
    """A base model with a trained adapter beside its weights, in evaluation mode.

    A base model that was quantized for the training has the values that its bits stood for, in plain layers.

    Args:
        adapter: The adapter's folder.
        base: The folder of the base model that it was trained on.
        examples: Decides which head the model has.
        labels: The label set in id order.
    """
    quantization = read_quantization(adapter)
    model, _ = _load(base, examples, labels, quantization)
    return _attach(model if quantization is None else dequantize(model), adapter)


def load_on_original(candidate: Path, base: Path, examples: Examples, labels: Sequence[str]) -> AnyModel:
    """The adapter of a train artifact on the base model as it came, though it was trained on a quantized one.

    Args and result are those of `load_trained`.
    """
    return _attach(_load(base, examples, labels)[0], candidate / "adapter")


def merge(model: AnyModel) -> AnyModel:
    """The plain model with its adapter's update added to its weights; a model without an adapter as it is."""
    peft = sys.modules.get("peft")  # a peft model exists only where peft was imported, which takes seconds
    if peft is not None and isinstance(model, peft.PeftModel):
        return model.merge_and_unload()
    return model


def count_parameters(model: AnyModel) -> tuple[int, int]:
    """How many parameters a model has, and how many of them are trained."""
    parameters = list(model.parameters())
    return sum(map(count_weights, parameters)), sum(p.numel() for p in parameters if p.requires_grad)


def _attach(model: AnyModel, adapter: Path) -> AnyModel:
    """The model with a trained adapter, in evaluation mode."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).eval()


def _load(
    folder: Path, examples: Examples, labels: Sequence[str], quantization: BitsAndBytesConfig | None = None
) -> tuple[AnyModel, set[str]]:
    """The model, and the names of its weights that the folder does not have and that are random."""
    import transformers

    quiet_libraries()
    find_weights(folder)
    auto_class = getattr(transformers, find_kind(examples).AUTO_CLASS)
    names: dict[str, Any] = {}
    if labels:
        names["id2label"] = dict(enumerate(labels))
        names["label2id"] = {label: number for number, label in enumerate(labels)}
        # A base model that was a regressor or had several labels a text would compute another loss.
        names["problem_type"] = "single_label_classification"
        # The head of another label set is replaced; _check_weights looks at everything else.
        names["ignore_mismatched_sizes"] = True
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    options |= loading_options(quantization)
    with refusing(folder, examples):
        model, loading = auto_class.from_pretrained(folder, **options, **OFFLINE, **names)
    random_weights = {*loading["missing_keys"], *(str(entry[0]) for entry in loading["mismatched_keys"])}
    _check_weights(model, random_weights, folder, examples, may_lack_head=bool(labels))
    _set_padding(model, load_tokenizer(folder))
    if quantization is not None:
        keep_exact(model)
    return model, random_weights


def _set_padding(model: AnyModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tell a model which token fills up batches: a classifier on a causal one looks for the last that is another."""
    for config in (model.config, model.config.get_text_config()):  # two of a model that sees pictures, too
        config.pad_token_id = pad_token_id(tokenizer)
    embedding = find_embedding(model)
    if isinstance(embedding, nn.Embedding) and not has_own_padding(tokenizer):
        embedding.padding_idx = None  # a token of texts, though saved as the padding: it is to get its gradient


def _check_weights(
    model: AnyModel, random_weights: set[str], folder: Path, examples: Examples, *, may_lack_head: bool
) -> None:
    """Refuse a base model whose body would be left at random: transformers only warns."""
    body = f"{model.base_model_prefix}."
    lacking = random_weights
    if may_lack_head:
        lacking = {name for name in lacking if name.startswith(body) and not name.startswith(f"{body}pooler.")}
    if lacking:
        some = ", ".join(sorted(lacking)[:3])
        raise ModelError(
            f"{folder}: is not a model for {examples.kind}: {len(lacking)} of its weights are missing or have another "
            f"shape ({some}), and would be random. Choose a base model of that kind, or fetch the model again."
        )
