"""What is trained beside an adapter, and what peft refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_models import TEXTS, make_bart, make_mixtral, nudge
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.adapter import try_adapter
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model, load_tokenizer, load_trained, merge

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")
LABELS = ("bad", "good", "ugly")
HEADS = {
    "distilbert": {"pre_classifier", "classifier"},
    "bart": {"classification_head"},
    "gpt2": {"score"},
    "llama": {"score"},
    "bert": {"classifier"},
}

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # of GPT-2, which peft sets right


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever is loaded, nothing reaches the user's screen."""
    yield
    assert capfd.readouterr() == ("", "")


def save(tokenizer: Path, folder: Path, model: Any) -> Path:
    load_tokenizer(tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=HEADS)
def base(request: pytest.FixtureRequest, bert: Path, llama: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """A base model whose file has no head, and what its head consists of."""
    import transformers

    name = request.param
    folder = tmp_path / name
    match name:
        case "distilbert":
            sizes = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}
            config = transformers.DistilBertConfig(vocab_size=len(load_tokenizer(bert)), **sizes)
            save(bert, folder, transformers.DistilBertModel(config))
        case "bart":
            make_bart(folder, TEXTS)
        case "gpt2":
            config = transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=64)
            save(llama, folder, transformers.GPT2Model(config))
        case _:
            folder = bert if name == "bert" else llama
    return folder, HEADS[name]


@pytest.fixture
def mamba(llama: Path, tmp_path: Path) -> Path:
    import transformers

    config = transformers.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1)
    return save(llama, tmp_path / "mamba", transformers.MambaForCausalLM(config))


@pytest.fixture
def mixtral(tmp_path: Path) -> Path:
    return make_mixtral(tmp_path / "mixtral", TEXTS)


def find_trained_parts(model: Any) -> set[str]:
    """What is trained in full: the names of the parts of the plain model."""
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad and ".lora_" not in name]
    return {name.removeprefix("base_model.model.").partition(".")[0] for name in trained}


def logits(model: Any, base: Path) -> torch.Tensor:
    encoded = load_tokenizer(base)("the film was very good.", return_tensors="pt")
    with torch.inference_mode():
        return torch.as_tensor(model.eval()(**encoded).logits)


def test_a_head_that_is_there_already_is_trained_in_full_like_a_new_one(
    base: tuple[Path, set[str]], tmp_path: Path
) -> None:
    folder, head = base
    fitting = save(folder, tmp_path / "fitting", build_model(folder, CLASSES, LABELS, None, 0))
    for start in (folder, fitting):
        model = build_model(start, CLASSES, LABELS, LoraConfig(r=2), 1)
        assert find_trained_parts(model) == head
        adapted = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
        assert adapted
        assert not any(part in name.split(".") for name in adapted for part in head)


def test_an_adapter_on_a_head_that_was_there_loads_merges_and_goes_on_as_it_was(
    base: tuple[Path, set[str]], tmp_path: Path
) -> None:
    fitting = save(base[0], tmp_path / "fitting", build_model(base[0], CLASSES, LABELS, None, 0))
    lora = LoraConfig(r=2)
    model = nudge(build_model(fitting, CLASSES, LABELS, lora, 1))
    model.save_pretrained(tmp_path / "adapter")
    expected = logits(model, fitting)
    loaded = load_trained(tmp_path, fitting, CLASSES, LABELS)
    assert torch.equal(logits(loaded, fitting), expected)
    assert torch.allclose(logits(merge(loaded), fitting), expected, atol=1e-5)
    further = build_model(fitting, CLASSES, LABELS, lora, 2, adapter=tmp_path / "adapter")
    assert torch.equal(logits(further, fitting), expected)


def test_all_linear_layers_of_mamba_are_those_that_peft_can_adapt(mamba: Path, tmp_path: Path) -> None:
    model = nudge(build_model(mamba, TEXT, (), LoraConfig(r=2), 0))
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted == {"in_proj", "x_proj", "dt_proj"}
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_trained(tmp_path, mamba, TEXT, ())
    assert torch.equal(logits(loaded, mamba), logits(model, mamba))


@pytest.mark.parametrize("try_it", [try_adapter, lambda base, kind, lora: build_model(base, kind, (), lora, 0)])
def test_what_peft_refuses_is_a_mistake_of_the_recipe(try_it: Any, mamba: Path, mixtral: Path) -> None:
    for base, lora, reason in (
        (mamba, LoraConfig(target_modules=("in_proj", "out_proj")), "type mamba: .*'out_proj' is incompatible"),
        (mixtral, LoraConfig(lora_dropout=0.1), "type mixtral: .*does not work with lora_dropout"),
        (mixtral, LoraConfig(use_dora=True), "type mixtral: .*does not work with use_dora"),
    ):
        with pytest.raises(ModelError, match=rf"^model\.lora: .*{reason}.*Change model\.lora"):
            try_it(base, TEXT, lora)


def test_a_model_is_tried_without_its_weights(mixtral: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixtral, tmp_path / "no-weights")
    (folder / "model.safetensors").unlink()
    try_adapter(folder, TEXT, LoraConfig())
