from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tiny_gguf import CHAT_TEMPLATE, write_gguf
from tiny_models import TEXTS
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling import gguf as gguf_module
from tunesmith.modeling.base import Base, find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.load import build_model, load_tokenizer
from tunesmith.store.sealed import find_damage

TEXT = TextGeneration(kind="text-generation", text="text")
CLASSES = TextClassification(kind="text-classification", text="text", label="label")
IDS = torch.tensor([[0, 5, 6, 7, 90, 12]])
SOME_TEXTS = [*TEXTS, " x  12 3\n\n ünï", "</s><s> the", "", "1,234.5  67\t8"]


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever is converted, nothing reaches the user's screen."""
    gguf_module._ensure.cache_clear()
    yield
    assert capfd.readouterr() == ("", "")


def find(path: Path) -> Base:
    return find_base(ModelConfig(base=str(path), cache=str(path.parent / "bases")))


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(build_model(folder, TEXT, (), None, 0).eval()(input_ids=IDS).logits)


def test_the_folder_gives_the_logits_and_the_tokens_of_the_model_that_the_file_was_made_from(
    llama: Path, tmp_path: Path
) -> None:
    base = find(write_gguf(llama, tmp_path / "tiny.gguf", quantization="F32"))
    assert torch.equal(logits(base.folder), logits(llama))
    ours, theirs = load_tokenizer(base.folder), load_tokenizer(llama)
    assert len(ours) == len(theirs)
    for text in SOME_TEXTS:
        assert ours(text).input_ids == theirs(text).input_ids
        assert ours.decode(ours(text).input_ids) == theirs.decode(theirs(text).input_ids)
    assert (ours.eos_token, ours.bos_token) == ("</s>", "<s>")
    assert ours.chat_template == CHAT_TEMPLATE
    assert (base.vocab_size, base.max_length) == (len(theirs), 64)


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_1", "F16"])
def test_the_weights_are_what_the_file_s_blocks_stand_for(quantization: str, llama: Path, tmp_path: Path) -> None:
    base = find(write_gguf(llama, tmp_path / "tiny.gguf", quantization=quantization))
    ours, theirs = build_model(base.folder, TEXT, (), None, 0), build_model(llama, TEXT, (), None, 0)
    kind = gguf.GGMLQuantizationType[quantization]
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"):
        original = theirs.get_parameter(name).detach().numpy()
        expected = gguf.quants.dequantize(gguf.quants.quantize(original, kind), kind)
        assert np.array_equal(ours.get_parameter(name).detach().numpy(), expected)
        assert 0 < np.abs(expected - original).max() < 0.02


def test_it_can_be_classified_with(llama: Path, tmp_path: Path) -> None:
    base = find(write_gguf(llama, tmp_path / "tiny.gguf"))
    model = build_model(base.folder, CLASSES, ("a", "b"), None, 0)
    assert model(input_ids=IDS).logits.shape == (1, 2)


def test_it_is_converted_once_and_known_by_its_content(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tunesmith")
    first = find(write_gguf(llama, tmp_path / "a.gguf"))
    shutil.copy(tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert find(tmp_path / "b.gguf") == first
    assert [message for message in caplog.messages if "computing" in message] == ["base: computing, first time"]
    other = find(write_gguf(llama, tmp_path / "c.gguf", quantization="Q4_1"))
    assert other.folder != first.folder
    assert other.digest != first.digest
    assert other.tokenizer_digest == first.tokenizer_digest
    elsewhere = find_base(ModelConfig(base=str(tmp_path / "a.gguf"), cache=str(tmp_path / "elsewhere")))
    assert elsewhere.folder != first.folder
    assert elsewhere.digest == first.digest


def test_what_was_converted_and_is_damaged_is_made_again(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "tiny.gguf")
    base = find(path)
    digest, weights = base.digest, base.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    gguf_module._ensure.cache_clear()
    assert find(path).digest == digest
    assert find_damage(base.folder) is None
    assert len([*(tmp_path / "bases" / "damaged").iterdir()]) == 1


def test_a_file_that_is_cut_short_anywhere_is_refused_and_nothing_is_kept(llama: Path, tmp_path: Path) -> None:
    content = write_gguf(llama, tmp_path / "tiny.gguf", quantization="F32").read_bytes()
    short = tmp_path / "short.gguf"
    for size in (0, 3, 20, 100, 3000, len(content) // 2, len(content) - 100_000, len(content) - 1):
        short.write_bytes(content[:size])
        gguf_module._ensure.cache_clear()
        with pytest.raises(ModelError, match=r"short\.gguf: .*cut short.*fetch it again") as caught:
            find(short)
        assert "\n" not in str(caught.value)
    assert not [*(tmp_path / "bases").glob("artifacts/*/*")]


def test_a_file_whose_numbers_are_not_finite_is_refused(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "tiny.gguf", quantization="F32")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\xff" * 8)
    with pytest.raises(ModelError, match=r"tiny\.gguf: is damaged: \S+ holds numbers that are not finite"):
        find(path)


def test_a_file_without_some_weights_is_refused_by_their_name(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "tiny.gguf", leave_out="blk.0.ffn_up.weight")
    with pytest.raises(ModelError, match=r"1 weights are missing .*\(model\.layers\.0\.mlp\.up_proj\.weight\)"):
        find(path)


def test_what_is_no_gguf_file_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match="does not start with the GGUF magic bytes"):
        find(tmp_path / "x.gguf")
    with pytest.raises(ModelError, match=r"there is no file .*nothing\.gguf\. Correct the path"):
        find(tmp_path / "nothing.gguf")


def test_a_tokenizer_that_cuts_out_digits_first_does_so(llama: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find(write_gguf(llama, tmp_path / "tiny.gguf", splitting="smollm")).folder)
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12b")
    assert [piece for piece, _ in split] == ["a", "ĠĠ", "1", "2", "b"]  # GPT-2: a, Ġ, Ġ12, b


def test_a_tokenizer_that_splits_in_an_unknown_way_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"only the name is known, 'deepseek-coder'.* Name the model"):
        find(write_gguf(llama, tmp_path / "tiny.gguf", splitting="deepseek-coder"))


def test_a_sentencepiece_tokenizer_puts_a_space_in_front_of_every_text(llama: Path, tmp_path: Path) -> None:
    pieces = ["▁t", "he", "▁the", "▁", "t", "h", "e", "n"]
    tokenizer = load_tokenizer(find(write_gguf(llama, tmp_path / "tiny.gguf", pieces=pieces)).folder)
    for text, expected in [
        ("then", ["<s>", "▁the", "n"]),
        (" then", ["<s>", "▁", "▁the", "n"]),
        ("the ü", ["<s>", "▁the", "▁", "<0xC3>", "<0xBC>"]),
    ]:
        assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == expected
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_where_it_is_kept_is_asked_for_a_gguf_file_alone_and_is_in_no_key(tmp_path: Path) -> None:
    config = ModelConfig(base="./x.gguf", cache="kept")
    assert config.key_fields() == ModelConfig(base="org/name").key_fields()
    assert config.located(Path("/recipes"), "/home/bases").cache == "/recipes/kept"
    assert ModelConfig(base="./x.gguf").located(Path("/recipes"), "/home/bases").cache == "/home/bases"
    assert ModelConfig(base="./x").located(Path("/recipes"), "/home/bases").cache == ""
    for base in ("./folder", "org/model.gguf"):
        with pytest.raises(ValidationError, match=r"has no effect on a base that is no \.gguf file"):
            ModelConfig(base=base, cache="kept")
    with pytest.raises(ModelError, match=r"model\.cache: .*Name the folder"):
        find_base(ModelConfig(base=str(tmp_path / "x.gguf")))


def test_a_file_in_a_package_is_found(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tiny_gguf_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    write_gguf(llama, package / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path / "site")
    base = find_base(ModelConfig(base="package:tiny_gguf_package/tiny.gguf", cache=str(tmp_path / "bases")))
    assert json.loads((base.folder / "config.json").read_text())["model_type"] == "llama"
    with pytest.raises(ModelError, match=r"has no file 'other\.gguf'"):
        find_base(ModelConfig(base="package:tiny_gguf_package/other.gguf", cache=str(tmp_path / "bases")))
