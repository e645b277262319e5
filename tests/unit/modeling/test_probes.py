"""Models that read what they must not are told from those that do not, by what they compute."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tunesmith.errors import ModelError
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model, load_tokenizer
from tunesmith.modeling.probes import check_causal

TEXT = TextGeneration(kind="text-generation", text="text")
TINY: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {
    "vocab_size": 100,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def tokenizer(bert: Path) -> Any:
    return load_tokenizer(bert)


def make(auto_class: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return auto_class.from_config(config).eval()


def save_with_tokenizer(model: Any, folder: Path, bert: Path) -> Path:
    shutil.copytree(bert, folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", [transformers.BertConfig, transformers.ElectraConfig, transformers.RobertaConfig])
def test_an_encoder_with_a_language_models_head_is_no_model_for_generation(
    config: Any, bert: Path, tmp_path: Path
) -> None:
    model = make(transformers.AutoModelForMaskedLM, config(**TINY))
    folder = save_with_tokenizer(model, tmp_path / "encoder", bert)
    message = rf"encoder: a {config.model_type} model is no causal model: where it predicts .* Choose a causal"
    with pytest.raises(ModelError, match=message):
        build_model(folder, TEXT, (), None, 0)
    with pytest.raises(ModelError, match=message):
        build_model(folder, TEXT, (), LoraConfig(r=2), 0, quantization="nf4")


def test_the_same_architecture_as_a_decoder_is_one(bert: Path, tmp_path: Path) -> None:
    model = make(transformers.AutoModelForCausalLM, transformers.BertConfig(**TINY, is_decoder=True))
    folder = save_with_tokenizer(model, tmp_path / "decoder", bert)
    assert build_model(folder, TEXT, (), None, 0).training


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(**GPT2),
        transformers.GPTNeoXConfig(**TINY),
        transformers.MistralConfig(**TINY, num_key_value_heads=1, sliding_window=3),
        transformers.MixtralConfig(**TINY, num_key_value_heads=1, num_local_experts=4),
        transformers.MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=4),
    ],
    ids=lambda config: config.model_type,
)
def test_causal_models_of_any_kind_pass(config: Any, tokenizer: Any) -> None:
    check_causal(make(transformers.AutoModelForCausalLM, config), tokenizer, Path("model"))


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_a_trained_language_model_can_be_trained_on(llama: Path, tmp_path: Path, lora: LoraConfig | None) -> None:
    adapter = tmp_path / "adapter"
    model = build_model(llama, TEXT, (), lora, 0)
    folder = shutil.copytree(llama, tmp_path / "model")
    model.save_pretrained(folder if lora is None else adapter)
    assert build_model(folder, TEXT, (), lora, 0, adapter=None if lora is None else adapter).training
    assert build_model(folder, TEXT, (), LoraConfig(r=2), 0, quantization="nf4").training


@pytest.mark.parametrize("is_training", [False, True])
def test_a_probe_draws_nothing_and_leaves_the_model_in_its_mode(tokenizer: Any, is_training: bool) -> None:
    model = make(transformers.AutoModelForCausalLM, transformers.GPT2Config(**GPT2))
    model.train(is_training)
    state = torch.random.get_rng_state()
    check_causal(model, tokenizer, Path("model"))
    assert {module.training for module in model.modules()} == {is_training}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_fails_on_texts_is_refused_with_its_own_words(tokenizer: Any) -> None:
    model = make(transformers.AutoModelForCausalLM, transformers.GPT2Config(**{**GPT2, "vocab_size": 10}))
    with pytest.raises(ModelError, match=r"model: a gpt2 model fails on a batch of texts with IndexError: index out"):
        check_causal(model, tokenizer, Path("model"))
