"""Models that read what they must not are told from those that do not, by what they compute."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tiny_models import WORDS, make_bert
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model, load_tokenizer
from tunesmith.modeling.probes import check_causal, check_ignores_padding

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")
LABELS = ("bad", "good", "ugly")
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
SMALL: dict[str, Any] = {"vocab_size": 100, "d_model": 32, "num_labels": 3, "pad_token_id": 0, "eos_token_id": 3}


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


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "albert": lambda: transformers.AlbertConfig(**TINY, embedding_size=16),
    "bart": lambda: transformers.BartConfig(**SMALL, encoder_layers=1, decoder_layers=1),
    "bert": lambda: transformers.BertConfig(**TINY),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **TINY, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, conv_kernel_size=3
    ),
    "distilbert": lambda: transformers.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=2),
    "electra": lambda: transformers.ElectraConfig(**TINY, embedding_size=16),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "llama": lambda: transformers.LlamaConfig(**TINY, num_key_value_heads=1),
    "longformer": lambda: transformers.LongformerConfig(**TINY, attention_window=8),  # which pads to a multiple itself
    "mobilebert": lambda: transformers.MobileBertConfig(
        **TINY, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16
    ),
    "modernbert": lambda: transformers.ModernBertConfig(**TINY, local_attention=4, global_attn_every_n_layers=2),
    "mpnet": lambda: transformers.MPNetConfig(**TINY),
    "roberta": lambda: transformers.RobertaConfig(**TINY),
    "t5": lambda: transformers.T5Config(**SMALL, d_kv=16, num_layers=2, num_heads=2, decoder_start_token_id=0),
}
READERS: dict[str, Callable[[], Any]] = {
    "canine": lambda: transformers.CanineConfig(**{**TINY, "max_position_embeddings": 256}, num_hash_buckets=64),
    "convbert": lambda: transformers.ConvBertConfig(**TINY, embedding_size=16, initializer_range=0.1),
    "fnet": lambda: transformers.FNetConfig(**TINY, tpu_short_seq_length=64),
    "nystromformer": lambda: transformers.NystromformerConfig(**TINY),
    "xlnet": lambda: transformers.XLNetConfig(vocab_size=100, d_model=32, n_layer=1, n_head=2, d_inner=32),
}


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_classifiers_whose_answer_is_the_texts_own_pass(name: str, tokenizer: Any) -> None:
    model = make(transformers.AutoModelForSequenceClassification, CLASSIFIERS[name]())
    check_ignores_padding(model, tokenizer, Path("model"))


@pytest.mark.parametrize("name", sorted(READERS))
def test_classifiers_that_read_padding_are_refused(name: str, tokenizer: Any) -> None:
    model = make(transformers.AutoModelForSequenceClassification, READERS[name]())
    with pytest.raises(ModelError, match=rf"model: a classifier of type {name} reads padding: .* Choose a base model"):
        check_ignores_padding(model, tokenizer, Path("model"))


@pytest.mark.parametrize("name", ["fnet", "xlnet"])
def test_they_are_refused_before_they_are_trained(name: str, tmp_path: Path) -> None:
    base = make_bert(tmp_path / name, WORDS)  # for its tokenizer
    make(transformers.AutoModelForSequenceClassification, READERS[name]()).save_pretrained(base)
    with pytest.raises(ModelError, match=rf"{name}: a classifier of type {name} reads padding"):
        build_model(base, CLASSES, LABELS, None, 0)
