"""Memory of a training, from the shapes of the weights alone."""

import math
import shutil

import pytest
import torch

from tiny_models import TEXTS, WORDS, make_bert, make_mixtral
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model
from tunesmith.modeling.memory import (
    check_quantizable,
    check_targets,
    estimate_training_bytes,
    has_matrices_alone,
)

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")


def test_full_training_takes_sixteen_bytes_a_parameter(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    assert estimate_training_bytes(folder, None, 8) == num_parameters * 16
    assert estimate_training_bytes(folder, None, 0) == num_parameters * 8


def test_an_adapter_takes_its_own_parameters_and_the_frozen_weights(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    query_only = LoraConfig(r=4, target_modules=("query",))
    assert estimate_training_bytes(folder, query_only, 8) == num_parameters * 4 + 4 * (32 + 32) * 16
    assert estimate_training_bytes(folder, LoraConfig(r=4), 8) > estimate_training_bytes(folder, query_only, 8)


def test_quantized_weights_take_half_a_byte_where_they_are_quantized(bert):
    lora = LoraConfig(r=4, target_modules=("query",))
    model = build_model(bert, CLASSES, ("a", "b"), lora, 0, quantization="nf4")
    packed = [p for p in model.parameters() if type(p).__name__ == "Params4bit"]
    num_packed = sum(math.prod(p.quant_state.shape) for p in packed)
    plain = estimate_training_bytes(bert, lora, 8)
    assert estimate_training_bytes(bert, lora, 8, "nf4") == pytest.approx(plain - num_packed * (4 - 0.516), abs=2)


def test_a_head_that_is_there_is_trained_in_full(bert, tmp_path):
    build_model(bert, CLASSES, ("a", "b"), None, 0).save_pretrained(shutil.copytree(bert, tmp_path / "fitting"))
    model = build_model(tmp_path / "fitting", CLASSES, ("a", "b"), LoraConfig(r=4), 0)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sum(p.numel() for p in model.classifier.original_module.parameters())  # which peft keeps beside its own
    estimated = estimate_training_bytes(tmp_path / "fitting", LoraConfig(r=4), 8)
    assert estimated == (frozen - head) * 4 + trained * 16


@pytest.mark.parametrize("fused", [False, True])
def test_experts_stay_as_they_are_when_a_model_is_quantized(tmp_path, fused):
    from safetensors.torch import load_file, save_file

    folder = make_mixtral(tmp_path / "mixtral", TEXTS)
    path = folder / "model.safetensors"
    weights = load_file(path)
    experts = {name: weight for name, weight in weights.items() if ".experts." in name}
    assert len(experts) == 4 * 3
    if fused:  # some models are saved as they are computed with
        stacked = torch.stack([weight.flatten() for weight in experts.values()])[None]
        save_file({name: weights[name] for name in {*weights} - {*experts}} | {"model.experts": stacked}, path)
    num_experts = sum(weight.numel() for weight in experts.values())
    lora = LoraConfig(r=4, target_modules=("q_proj",))
    plain, quantized = (estimate_training_bytes(folder, lora, 8, bits) for bits in (None, "nf4"))
    assert 0 < plain - quantized < 4 * 3_500  # the attention and the router
    assert not has_matrices_alone(folder)
    share = num_experts / sum(weight.numel() for weight in weights.values())
    with pytest.raises(ModelError, match=rf"^model\.quantization: .*mixture of experts.*: {share:.0%} of its weights"):
        check_quantizable(folder)


def test_a_model_without_experts_may_be_quantized(bert, llama):
    for folder in (bert, llama):
        assert has_matrices_alone(folder)
        check_quantizable(folder)


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        ("query", "self.value"),
        ("bert.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.key"),
        r"encoder\.layer\.0\..*query",
        r"bert\.encoder\.layer\.0\..*query",
        ".*key",
    ],
)
@pytest.mark.parametrize("with_prefix", [False, True])
def test_layers_that_the_files_have_pass_there_and_in_training(tmp_path, targets, with_prefix):
    base = make_bert(tmp_path / "bert", WORDS)
    if with_prefix:
        build_model(base, CLASSES, ("a", "b"), None, 0).save_pretrained(base)
    lora = LoraConfig(target_modules=targets)
    check_targets(base, lora)
    build_model(base, CLASSES, ("a", "b"), lora, 0)


@pytest.mark.parametrize("body", ["", r"gpt_neox\."])
def test_an_output_layer_called_an_embedding_hides_no_layer(llama, tmp_path, body):
    from safetensors import safe_open
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = shutil.copytree(llama, tmp_path / "neox")
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    GPTNeoXForCausalLM(GPTNeoXConfig(**config, vocab_size=320)).save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert "embed_out.weight" in weights.keys()  # noqa: SIM118 - no mapping
    lora = LoraConfig(target_modules=rf"{body}layers\.\d+\.attention\.query_key_value")
    check_targets(folder, lora)
    build_model(folder, TEXT, (), lora, 0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ("query", "valeu"),
            r"has no layer 'valeu'\. Did you mean 'value'\? Its matrices are called dense, key",
        ),
        ("query", r"has no layer 'query'.*regular expression for whole names"),
        (r"layer\.7\..*", r"has no layer 'layer.*regular expression for whole names, such as '\.\*dense'"),
    ],
)
def test_layers_that_no_file_has_are_refused_before_anything_is_loaded(bert, targets, message):
    with pytest.raises(ModelError, match=message):
        check_targets(bert, LoraConfig(target_modules=targets))
