from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_models import TEXTS, WORDS, make_bert, make_llama, nudge
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling import quantize
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model, count_parameters, load_on_original, load_trained, merge
from tunesmith.modeling.quantize import compute_in, save_quantization

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")
LABELS = ("bad", "good", "ugly")
IDS = torch.tensor([[2, 10, 11, 12, 3]])


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever is loaded, nothing reaches the user's screen."""
    yield
    assert capfd.readouterr() == ("", "")


def build(base: Path, examples: Any, **options: Any) -> Any:
    labels = () if examples is TEXT else LABELS
    lora = LoraConfig(r=2, **options)
    return nudge(build_model(base, examples, labels, lora, 3, quantization="nf4"))


def save(model: Any, candidate: Path) -> Path:
    model.save_pretrained(candidate / "adapter")
    save_quantization(model, candidate / "adapter")
    return candidate


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def quantized_names(model: Any) -> list[str]:
    from bitsandbytes.nn import Linear4bit

    return [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]


@pytest.fixture(params=["bert", "llama", "llama-classes", "gpt2"])
def case(request: pytest.FixtureRequest, bert: Path, llama: Path, tmp_path: Path) -> tuple[Path, Any]:
    match request.param:
        case "bert":
            return bert, CLASSES
        case "gpt2":
            return make_gpt2(tmp_path / "gpt2"), TEXT
        case name:
            return llama, CLASSES if name == "llama-classes" else TEXT


def make_gpt2(folder: Path) -> Path:
    """A causal model whose linear layers keep their weights transposed, some of them square."""
    from transformers import GPT2Config, GPT2LMHeadModel

    make_llama(folder, TEXTS)  # for its tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
            folder
        )
    return folder


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # what peft says of every adapter on GPT-2
def test_what_is_judged_is_what_was_trained_in_training_and_in_evaluation(
    case: tuple[Path, Any], tmp_path: Path
) -> None:
    base, examples = case
    model = build(base, examples, lora_dropout=0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trained = model.train()(input_ids=IDS, use_cache=False).logits if examples is TEXT else model(input_ids=IDS).logits
    assert trained.requires_grad
    for _ in range(2):
        assert torch.allclose(logits(model), trained, atol=1e-5)
    loaded = load_trained(save(model, tmp_path / "candidate"), base, examples, () if examples is TEXT else LABELS)
    assert not quantized_names(loaded)
    assert torch.allclose(logits(loaded), trained, atol=1e-5)
    merged = merge(loaded)
    assert torch.allclose(logits(merged), trained, atol=1e-4)
    original = load_on_original(tmp_path / "candidate", base, examples, () if examples is TEXT else LABELS)
    assert not torch.allclose(logits(original), trained, atol=1e-4)  # the quantization is real
    assert type(merged) is type(merge(original))

    merged.save_pretrained(tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    again = type(merged).from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(again), logits(merged))


def test_heads_and_poolers_are_not_quantized_and_are_trained_where_the_base_lacks_them(tmp_path: Path) -> None:
    from transformers import AutoModel

    base = make_bert(tmp_path / "base", WORDS)
    AutoModel.from_pretrained(base, add_pooling_layer=False).save_pretrained(base)
    model = build(base, CLASSES)
    names = quantized_names(model)
    assert len(names) == 6
    assert not [name for name in names if "classifier" in name or "pooler" in name]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"base_model.model.classifier.modules_to_save.default.weight"} < trained
    assert [name for name in trained if "pooler" in name]
    loaded = load_trained(save(model, tmp_path), base, CLASSES, LABELS)
    assert torch.allclose(logits(loaded), logits(model), atol=1e-5)


def test_packed_weights_are_counted_as_what_they_stand_for(bert: Path, llama: Path) -> None:
    for base, examples in ((bert, CLASSES), (llama, TEXT)):
        labels = () if examples is TEXT else LABELS
        plain = build_model(base, examples, labels, LoraConfig(r=2), 0)
        assert count_parameters(build(base, examples)) == count_parameters(plain)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"target_modules": ("q_proj",)}])
def test_every_kind_of_adapter_can_be_trained_on_it(options: dict[str, Any], llama: Path, tmp_path: Path) -> None:
    model = build(llama, TEXT, **options)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    loaded = load_trained(save(model, tmp_path), llama, TEXT, ())
    assert torch.allclose(logits(loaded), logits(model), atol=1e-5)
    assert torch.allclose(logits(merge(loaded)), logits(model), atol=1e-4)


def test_bfloat16_is_computed_where_it_is_asked_for(llama: Path) -> None:
    model = build(llama, TEXT)
    exact = logits(model)
    compute_in(model, torch.bfloat16)
    difference = (logits(model) - exact).abs().max()
    assert 1e-6 < difference < 0.05


def test_what_is_kept_of_the_quantization_is_the_same_on_every_machine(llama: Path, tmp_path: Path) -> None:
    model = build(llama, TEXT)
    first = (save(model, tmp_path / "a") / "adapter" / "quantization_config.json").read_bytes()
    compute_in(model, torch.bfloat16)
    model.config.quantization_config.bnb_4bit_compute_dtype = torch.bfloat16
    assert (save(model, tmp_path / "b") / "adapter" / "quantization_config.json").read_bytes() == first
    assert json.loads(first)["bnb_4bit_quant_type"] == "nf4"
    assert json.loads(first)["bnb_4bit_use_double_quant"] is True


def test_without_bitsandbytes_it_is_refused_with_the_command(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes.*pip install 'tunesmith\[qlora\]'"):
        build_model(llama, TEXT, (), LoraConfig(r=2), 0, quantization="nf4")


def test_a_broken_configuration_is_a_mistake_of_the_user(llama: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(llama, broken)
    (broken / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(ModelError, match="transformers cannot load it as a model for text-generation"):
        build_model(broken, TEXT, (), LoraConfig(r=2), 0, quantization="nf4")
