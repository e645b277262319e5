from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_models import TEXTS, WORDS, make_bert, make_llama, nudge
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model, count_parameters, load_tokenizer, load_trained, merge, pad_token_id

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")
LABELS = ("bad", "good", "ugly")
IDS = torch.tensor([[2, 10, 11, 12, 3]])


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever is loaded, nothing reaches the user's screen."""
    yield
    assert capfd.readouterr() == ("", "")


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def without_pooler(folder: Path) -> Path:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_a_base_model_that_was_made_for_another_loss_gets_the_one_of_labels(problem_type: str, tmp_path: Path) -> None:
    base = make_bert(tmp_path / "bert", WORDS)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "problem_type": problem_type}))
    model = build_model(base, CLASSES, LABELS, None, 0).eval()
    output = model(input_ids=IDS, labels=torch.tensor([2]))
    assert torch.allclose(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([2])))


def test_the_seed_alone_decides_the_head_and_the_global_generator_stays(bert: Path) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    heads = [build_model(bert, CLASSES, LABELS, None, seed).classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], build_model(bert, CLASSES, LABELS, None, 0).classifier.weight)
    assert not torch.equal(heads[0], heads[2])


def test_the_seed_decides_the_adapter(bert: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        model = build_model(bert, CLASSES, LABELS, LoraConfig(), seed)
        return next(weight for name, weight in model.named_parameters() if "lora_A" in name)

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_the_model_knows_its_labels_by_name(bert: Path) -> None:
    config = build_model(bert, CLASSES, LABELS, None, 0).config
    assert config.id2label == {0: "bad", 1: "good", 2: "ugly"}
    assert config.label2id == {"bad": 0, "good": 1, "ugly": 2}


def test_a_checkpoint_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    folder = make_bert(tmp_path, WORDS, dtype="bfloat16")
    model = build_model(folder, CLASSES, LABELS, None, 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_new_model_is_in_training_mode_and_every_weight_is_trained(bert: Path) -> None:
    model = build_model(bert, CLASSES, LABELS, None, 0)
    assert model.training
    total, trainable = count_parameters(model)
    assert total == trainable == sum(parameter.numel() for parameter in model.parameters())


def test_an_adapter_trains_little_and_the_head(bert: Path) -> None:
    model = build_model(bert, CLASSES, LABELS, LoraConfig(r=2), 0)
    total, trainable = count_parameters(model)
    assert 0 < trainable < total / 4
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("classifier" in name for name in trained)
    assert all("lora_" in name or "classifier" in name for name in trained)


def test_named_layers_get_the_adapter_and_no_others(bert: Path) -> None:
    model = build_model(bert, CLASSES, LABELS, LoraConfig(target_modules=("query", "attention.self.value")), 0)
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted == {"query", "value"}


@pytest.mark.parametrize("name", ["qurey", "classifier", "LayerNorm"])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(bert: Path, name: str) -> None:
    with pytest.raises(ModelError, match=rf"no linear layer '{name}'.*: dense, key, query, value; or write all-linear"):
        build_model(bert, CLASSES, LABELS, LoraConfig(target_modules=("query", name)), 0)


def test_an_expression_chooses_among_the_whole_names_of_linear_layers(bert: Path) -> None:
    model = build_model(bert, CLASSES, LABELS, LoraConfig(target_modules=r".*layer\.0\..*(query|value|dropout)"), 0)
    adapted = {
        name.split(".lora_")[0].partition(".layer.")[2] for name, _ in model.named_parameters() if "lora_" in name
    }
    assert adapted == {"0.attention.self.query", "0.attention.self.value"}


def test_an_expression_that_matches_no_linear_layer_is_refused_with_an_example(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"'query' matches no linear layer; whole names .* 'bert\.encoder\.layer\.0\."):
        build_model(bert, CLASSES, LABELS, LoraConfig(target_modules="query"), 0)


@pytest.mark.parametrize("lora", [LoraConfig(r=4, use_rslora=True), LoraConfig(r=4, use_dora=True)])
def test_kinds_of_adapters_load_as_they_were_and_differ_from_the_plain_one(
    bert: Path, tmp_path: Path, lora: LoraConfig
) -> None:
    model = nudge(build_model(bert, CLASSES, LABELS, lora, seed=9))
    plain = nudge(build_model(bert, CLASSES, LABELS, LoraConfig(r=4), seed=9))
    assert not torch.allclose(logits(model), logits(plain), atol=1e-4)
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_trained(tmp_path, bert, CLASSES, LABELS)
    assert torch.equal(logits(loaded), logits(model))
    assert torch.allclose(logits(merge(loaded)), logits(model), atol=1e-5)


def test_a_causal_model_without_padding_token_gets_one_for_classification_too(llama: Path) -> None:
    model = build_model(llama, CLASSES, LABELS, None, 0).eval()
    assert model.config.pad_token_id == pad_token_id(load_tokenizer(llama)) == 1
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([[0, 5, 6]])).logits
        padded = model(input_ids=torch.tensor([[0, 5, 6, 1, 1]]), attention_mask=torch.tensor([[1, 1, 1, 0, 0]])).logits
    assert torch.allclose(alone, padded, atol=1e-6)


def test_of_a_model_that_sees_pictures_the_part_for_texts_knows_the_padding(llama: Path, tmp_path: Path) -> None:
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text = {**size, "vocab_size": 320, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 9}
    config = transformers.Gemma3Config(text_config=text, vision_config={**size, "image_size": 28, "patch_size": 14})
    folder = shutil.copytree(llama, tmp_path / "gemma")
    transformers.Gemma3ForSequenceClassification(config).save_pretrained(folder)
    model = build_model(folder, CLASSES, LABELS, None, 0)
    assert model.config is not model.config.text_config
    assert model.config.pad_token_id == model.config.text_config.pad_token_id == pad_token_id(load_tokenizer(llama))


@pytest.mark.parametrize("pads_with", [None, "</s>", "<s>"])
def test_a_token_of_texts_that_pads_is_trained_from_the_champion_as_it_was_from_the_base(
    llama: Path, tmp_path: Path, pads_with: str | None
) -> None:
    base = shutil.copytree(llama, tmp_path / "base")
    tokenizer = load_tokenizer(base)
    tokenizer.pad_token = pads_with
    tokenizer.save_pretrained(base)
    first = build_model(base, TEXT, (), None, 0)
    champion = shutil.copytree(base, tmp_path / "champion")
    first.save_pretrained(champion)
    gradients = []
    for model in (first, build_model(champion, TEXT, (), None, 0)):
        ids = torch.tensor([[0, 5, 1, 0, 6, 1]])  # two texts, each with its begin and its end
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append(model.get_input_embeddings().weight.grad)
    assert gradients[0][pad_token_id(tokenizer)].any()
    assert torch.equal(*gradients)


def test_a_padding_that_is_nothing_else_is_not_trained(bert: Path) -> None:
    model = build_model(bert, CLASSES, LABELS, None, 0)
    assert model.get_input_embeddings().padding_idx == pad_token_id(load_tokenizer(bert)) == 0


def test_a_tokenizer_without_padding_and_end_pads_with_zero(tmp_path: Path) -> None:
    assert pad_token_id(load_tokenizer(make_llama(tmp_path, TEXTS, has_eos=False))) == 0


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_a_trained_classifier_loads_as_it_was(bert: Path, tmp_path: Path, lora: LoraConfig | None) -> None:
    model = nudge(build_model(bert, CLASSES, LABELS, lora, seed=9))
    model.save_pretrained(tmp_path / ("model" if lora is None else "adapter"))
    if lora is None:
        load_tokenizer(bert).save_pretrained(tmp_path / "model")
    loaded = load_trained(tmp_path, bert, CLASSES, LABELS)
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    merged = merge(loaded)
    assert torch.allclose(logits(merged), logits(model), atol=1e-5)
    assert type(merged).__name__ == "BertForSequenceClassification"


def test_what_the_base_model_lacks_is_trained_and_kept_with_the_adapter(tmp_path: Path) -> None:
    base = without_pooler(make_bert(tmp_path / "base", WORDS))
    model = nudge(build_model(base, CLASSES, LABELS, LoraConfig(r=2), seed=9))
    model.save_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(load_trained(tmp_path, base, CLASSES, LABELS)), logits(model))


def test_a_trained_language_model_with_adapter_loads_as_it_was(llama: Path, tmp_path: Path) -> None:
    model = nudge(build_model(llama, TEXT, (), LoraConfig(r=2), seed=9))
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_trained(tmp_path, llama, TEXT, ())
    assert torch.equal(logits(loaded), logits(model))
    assert torch.allclose(logits(merge(loaded)), logits(model), atol=1e-5)


def test_the_head_of_another_label_set_is_replaced_and_the_body_kept(bert: Path, tmp_path: Path) -> None:
    nudge(build_model(bert, CLASSES, LABELS, None, 0)).save_pretrained(tmp_path)
    load_tokenizer(bert).save_pretrained(tmp_path)
    model = build_model(tmp_path, CLASSES, ("no", "yes"), None, 0)
    assert model.classifier.weight.shape == (2, 32)
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert torch.equal(
        model.bert.pooler.dense.weight, build_model(tmp_path, CLASSES, LABELS, None, 0).bert.pooler.dense.weight
    )


def test_an_encoder_is_no_model_for_generation(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model for text-generation: \d+ of its weights are missing"):
        build_model(bert, TEXT, (), None, 0)


def test_a_base_model_that_lacks_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert, tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 of its weights are missing.*attention\.self\.query\.weight"):
        build_model(folder, CLASSES, LABELS, None, 0)


def test_a_model_that_needs_remote_code_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "brand-new", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise RuntimeError('remote code ran')")
    with pytest.raises(ModelError, match="other: transformers cannot load it"):
        build_model(folder, CLASSES, LABELS, None, 0)


def test_weights_that_are_no_safetensors_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "other")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        build_model(folder, CLASSES, LABELS, None, 0)


def test_a_truncated_weights_file_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "other")
    (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelError, match="other: transformers cannot load it"):
        build_model(folder, CLASSES, LABELS, None, 0)


def test_a_folder_without_tokenizer_gives_none(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "other")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer files"):
        load_tokenizer(folder)


def test_a_broken_tokenizer_is_named(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "other")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="other: its tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_token_types_go_only_to_a_model_that_reads_them(bert: Path, tmp_path: Path) -> None:
    assert "token_type_ids" in load_tokenizer(bert).model_input_names
    folder = shutil.copytree(bert, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "type_vocab_size": 0}))
    assert "token_type_ids" not in load_tokenizer(folder).model_input_names
    load_tokenizer(folder).save_pretrained(tmp_path / "alone")
    assert "token_type_ids" not in load_tokenizer(tmp_path / "alone").model_input_names
