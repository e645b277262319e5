from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from pydantic import ValidationError

from tunesmith.errors import ModelError
from tunesmith.modeling import base as base_module
from tunesmith.modeling.base import POSITIONS_AFTER_PADDING, find_base
from tunesmith.modeling.config import LoraConfig, ModelConfig


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def digest(folder: Path) -> str:
    return find_base(ModelConfig(base=str(folder))).digest


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_folder_is_relative_to_the_recipe() -> None:
    config = ModelConfig.model_validate({"base": "./tiny"}, context={"folder": "/recipes"})
    assert config.base == "/recipes/tiny"


@pytest.mark.parametrize("base", ["package:my_models/tiny", "package:my_models/a/b", "org/name", "gpt2", "org/a.b-c_d"])
def test_packages_and_hub_ids_stay_as_they_are(base: str) -> None:
    assert ModelConfig.model_validate({"base": base}, context={"folder": "/recipes"}).base == base


@pytest.mark.parametrize(
    "base", ["", "a/b/c", "package:", "package:my-models/x", "package:m/../x", "with space", "http://x/y"]
)
def test_what_is_no_base_is_refused(base: str) -> None:
    with pytest.raises(ValidationError, match=r"package:"):
        ModelConfig(base=base)


def test_a_revision_of_what_is_not_on_the_hub_is_refused() -> None:
    assert ModelConfig(base="org/name", revision="v1").revision == "v1"
    for base in ("./tiny", "package:my_models/tiny"):
        with pytest.raises(ValidationError, match=r"revision\s+has no effect"):
            ModelConfig(base=base, revision="v1")


@pytest.mark.parametrize(
    "fields", [{"r": 0}, {"lora_alpha": 0}, {"lora_dropout": 1.0}, {"target_modules": ()}, {"target_modules": "(query"}]
)
def test_an_adapter_that_cannot_be_trained_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoraConfig(**fields)


def test_quantized_weights_are_for_an_adapter() -> None:
    with pytest.raises(ValidationError, match=r"quantization\n.*nf4 is for an adapter.*Add model\.lora, or remove it"):
        ModelConfig(base="org/a", quantization="nf4")
    quantized = ModelConfig(base="org/a", lora=LoraConfig(), quantization="nf4")
    assert quantized.key_fields() != ModelConfig(base="org/a", lora=LoraConfig()).key_fields()


def test_the_name_of_the_base_is_in_no_key() -> None:
    assert ModelConfig(base="org/a", revision="v1").key_fields() == {"lora": None, "quantization": None}


def test_the_digest_is_of_the_bytes_and_not_of_the_place(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "elsewhere")
    (other / "README.md").write_text("about")
    (other / "training_args.bin").write_bytes(b"x")
    assert digest(other) == digest(bert)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_one_changed_byte_of_a_file_that_counts_changes_the_digest(bert: Path, tmp_path: Path, name: str) -> None:
    other = copy(bert, tmp_path / "other")
    content = (other / name).read_bytes()
    changed = content + b" " if name.endswith(".json") else content[:-1] + bytes([content[-1] ^ 1])
    (other / name).write_bytes(changed)
    assert digest(other) != digest(bert)


def test_an_added_generation_config_changes_the_digest_but_not_the_tokenizers(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "generation_config.json").write_text("{}")
    assert digest(other) != digest(bert)
    tokenizers = {find_base(ModelConfig(base=str(folder))).tokenizer_digest for folder in (bert, other)}
    assert len(tokenizers) == 1


def test_a_base_is_hashed_once_in_a_process(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest(bert)
    monkeypatch.setattr(base_module, "file_sha256", lambda path: pytest.fail(f"{path} hashed again"))
    digest(bert)


def test_weights_in_several_files_are_all_in_the_digest(bert: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(bert, dtype=torch.float32)
    other = copy(bert, tmp_path / "other")
    (other / "model.safetensors").unlink()
    model.save_pretrained(other, max_shard_size="20KB")
    shards = sorted(other.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = digest(other)
    shards[0].write_bytes(shards[0].read_bytes() + b"\0")
    assert digest(other) != before
    shards[0].unlink()
    with pytest.raises(ModelError, match=rf"index\.json: names {shards[0].name}, which is missing"):
        digest(other)


def test_the_limit_is_the_least_of_the_models_and_the_tokenizers(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "other")
    assert find_base(ModelConfig(base=str(other))).max_length == 64
    edit(other / "tokenizer_config.json", model_max_length=48)
    assert find_base(ModelConfig(base=str(other))).max_length == 48
    edit(other / "tokenizer_config.json", model_max_length=10**30)
    edit(other / "config.json", max_position_embeddings=514, model_type="roberta", pad_token_id=1)
    assert find_base(ModelConfig(base=str(other))).max_length == 512
    edit(other / "config.json", max_position_embeddings=None)
    assert find_base(ModelConfig(base=str(other))).max_length is None


@pytest.mark.parametrize("model_type", sorted(POSITIONS_AFTER_PADDING - {"lilt"}))  # which wants boxes beside the text
def test_a_model_takes_as_many_tokens_as_its_limit_and_no_more(model_type: str, bert: Path, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model(model_type)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    places = {"pad_token_id": 1, "max_position_embeddings": 20, "attention_window": [4], "default_language": "en_XX"}
    for name, value in {**sizes, "intermediate_size": 64, **places}.items():
        setattr(config, name, value)
    model = transformers.AutoModel.from_config(config).eval()
    other = copy(bert, tmp_path / "other")
    edit(other / "config.json", **places, model_type=model_type)
    limit = find_base(ModelConfig(base=str(other))).max_length
    assert limit is not None
    model(input_ids=torch.full((1, limit), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, limit + 1), 7))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .*/nowhere\. Correct the path"):
        find_base(ModelConfig(base=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pytorch_model.bin", "can run code when they are read. Convert them once"),
        ("adapter_config.json", "It holds an adapter"),
        ("model.gguf", r"GGUF weights; name the file itself in model\.base, such as model\.gguf"),
        ("notes.txt", "Name a folder that transformers saved"),
    ],
)
def test_a_folder_without_safetensors_says_what_to_do(bert: Path, tmp_path: Path, name: str, advice: str) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "model.safetensors").unlink()
    (other / name).write_text("{}")
    with pytest.raises(ModelError, match=rf"no model\.safetensors\. .*{advice}"):
        find_base(ModelConfig(base=str(other)))


def test_a_folder_without_a_tokenizer_is_refused(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer files.*Save the tokenizer beside the model"):
        find_base(ModelConfig(base=str(other)))


def test_a_tokenizer_of_bytes_needs_no_vocabulary(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "tokenizer.json").unlink()
    edit(other / "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    assert find_base(ModelConfig(base=str(other)))


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("[]", "holds no JSON object")])
def test_a_broken_config_is_named(bert: Path, tmp_path: Path, content: str, message: str) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "config.json").write_text(content)
    with pytest.raises(ModelError, match=rf"config\.json: {message}"):
        find_base(ModelConfig(base=str(other)))


def test_weights_that_are_quantized_already_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = copy(bert, tmp_path / "bert")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(ModelError, match=r"quantized \(bitsandbytes\)\. Name the model that they were made from"):
        find_base(ModelConfig(base=str(folder)))


def test_a_folder_without_config_is_no_model(bert: Path, tmp_path: Path) -> None:
    other = copy(bert, tmp_path / "other")
    (other / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_base(ModelConfig(base=str(other)))


def test_a_base_in_a_package_is_found_without_importing_the_package(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "tiny_models_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    copy(bert, package / "deep" / "model")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = find_base(ModelConfig(base="package:tiny_models_package/deep/model"))
    assert found.folder == package / "deep" / "model"
    assert "tiny_models_package" not in sys.modules
    with pytest.raises(ModelError, match=r"'tiny_models_package' has no folder 'other'"):
        find_base(ModelConfig(base="package:tiny_models_package/other"))


def test_a_package_that_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(ModelError, match=r"'no_such_models' is not installed\. Install it: pip install no-such-models"):
        find_base(ModelConfig(base="package:no_such_models/tiny"))


def test_a_hub_model_is_fetched_at_its_revision_and_known_by_its_content(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_base(ModelConfig(base="org/tiny", revision="v2")).digest == digest(bert)
    assert (asked["name"], asked["revision"]) == ("org/tiny", "v2")
    assert "*.bin" not in asked["allow_patterns"]


def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(
        ModelError, match=r"'org/tiny' is not on this machine, and the Hub could not be reached.*'\./org/tiny'"
    ):
        find_base(ModelConfig(base="org/tiny"))
    assert time.monotonic() - start < 20


def test_the_weights_are_hashed_only_when_their_digest_is_asked_for(bert, monkeypatch):
    hashed = []
    monkeypatch.setattr(base_module, "_hash_unchanged", lambda path, *_seen: hashed.append(path.name) or "0" * 64)
    found = find_base(ModelConfig(base=str(bert)))
    assert found.tokenizer_digest
    assert "model.safetensors" not in hashed
    assert found.digest != found.tokenizer_digest
    assert "model.safetensors" in hashed
