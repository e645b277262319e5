from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny_models import TEXTS, WORDS, make_bert, make_llama
from tunesmith.errors import DataError, ModelError
from tunesmith.features.batching import read_features
from tunesmith.features.encode import TokenizeConfig, derive_encode, encode
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.base import LoraConfig, ModelConfig
from tunesmith.modeling.load import load_tokenizer
from tunesmith.store.code import code_identity
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import file_sha256
from tunesmith.store.ref import Ref

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")
ROWS = {
    "train": [("good film", "pos"), ("bad film", "neg"), ("the story was very very bad", "neg")],
    "validation": [("we liked it", "pos")],
    "test": [("not good", "neg"), ("good", "pos")],
}


def write_splits(folder: Path, rows: dict[str, list[tuple[str, str]]]) -> Ref:
    folder.mkdir()
    for split, pairs in rows.items():
        texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
        ids = [f"{number:016x}" for number in range(len(pairs))]
        columns = {"row_id": ids, "text": texts, "label": labels}
        pq.write_table(
            pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}),
            folder / f"{split}.parquet",
        )
    return Ref(kind="split", key="k" * 32, uri=str(folder))


@pytest.fixture
def splits(tmp_path: Path) -> Ref:
    return write_splits(tmp_path / "splits", ROWS)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def key(splits: Ref, base: Path, max_length: int | None = None, examples: Any = CLASSES, **model: Any) -> str:
    return derive_encode(
        splits, examples, ModelConfig(base=str(base), **model), TokenizeConfig(max_length=max_length)
    ).key


def test_features_of_every_split_are_there_with_their_counts(splits: Ref, store: FolderStore, bert: Path) -> None:
    ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=6), store)
    assert ref.facts == {
        "num_examples": {"train": 3, "validation": 1, "test": 2},
        "num_tokens": {"train": 14, "validation": 5, "test": 7},
        "num_truncated": {"train": 1, "validation": 0, "test": 0},
        "labels": ["neg", "pos"],
        "max_length": 6,
        "pad_token_id": 0,
    }
    features = read_features(ref.folder, "train")
    assert features.column_names == ["row_id", "input_ids", "token_type_ids", "labels"]
    assert features["labels"][:] == [1, 0, 0]
    assert [len(ids) for ids in features["input_ids"]] == [4, 4, 6]


def test_the_tokenizer_goes_along_and_cuts_at_the_same_length(splits: Ref, store: FolderStore, bert: Path) -> None:
    ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=6), store)
    tokenizer = load_tokenizer(ref.folder / "tokenizer")
    row = tokenizer("the story was very very bad", truncation=True)
    assert row["input_ids"] == read_features(ref.folder, "train")[2]["input_ids"]
    assert "token_type_ids" in row


def test_the_same_splits_give_the_same_bytes(splits: Ref, tmp_path: Path, bert: Path) -> None:
    digests = []
    for name in ("a", "b"):
        ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(), FolderStore(tmp_path / name))
        files = sorted(path for path in ref.folder.rglob("*") if path.suffix in (".arrow", ".json") and path.is_file())
        digests.append(
            {
                str(path.relative_to(ref.folder)): file_sha256(path)
                for path in files
                if path.parent != ref.folder or path.suffix == ".arrow"
            }
        )
    assert digests[0] == digests[1]
    assert {"train.arrow", "tokenizer/tokenizer.json"} <= set(digests[0])


def test_generation_features_are_blocks_of_each_split_alone(splits: Ref, store: FolderStore, llama: Path) -> None:
    ref = encode(splits, TEXT, ModelConfig(base=str(llama)), TokenizeConfig(max_length=8), store)
    assert ref.facts["labels"] == []
    for split, rows in ROWS.items():
        tokenizer = load_tokenizer(llama)
        ids = [token for text, _ in rows for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
        blocks = read_features(ref.folder, split)["input_ids"][:]
        flat = [token for block in blocks for token in block]
        assert flat == ids[: len(flat)]
        assert len(ids) - len(flat) < 2


def test_by_default_a_row_may_be_as_long_as_the_model_takes(splits: Ref, store: FolderStore, bert: Path) -> None:
    assert encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(), store).facts["max_length"] == 64


def test_asking_for_what_is_the_default_is_the_same_artifact(splits: Ref, bert: Path) -> None:
    assert key(splits, bert) == key(splits, bert, 64) != key(splits, bert, 63)


def test_a_length_beyond_the_model_is_refused_before_anything_is_computed(splits: Ref, bert: Path) -> None:
    with pytest.raises(ModelError, match=r"max_length is 65, but the model in .* at most 64 tokens. Set it to 64"):
        key(splits, bert, 65)


def test_the_key_needs_no_files_of_the_splits(bert: Path) -> None:
    assert key(Ref(kind="split", key="planned", uri="/nowhere"), bert)


def test_new_weights_or_an_adapter_do_not_encode_again_but_a_new_tokenizer_does(
    splits: Ref, tmp_path: Path, bert: Path
) -> None:
    other = make_bert(tmp_path / "other", WORDS)
    (other / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes()[:-4] + b"\x00\x01\x02\x03")
    assert key(splits, bert) == key(splits, other) == key(splits, bert, lora=LoraConfig())
    assert key(splits, bert) != key(splits, make_bert(tmp_path / "third", [*WORDS, "new"]))


def test_another_column_is_another_artifact(splits: Ref, bert: Path) -> None:
    other = CLASSES.model_copy(update={"text": "title"})
    assert key(splits, bert) != key(splits, bert, examples=other)


def test_a_split_without_an_example_is_refused(tmp_path: Path, store: FolderStore, bert: Path) -> None:
    splits = write_splits(tmp_path / "splits", {**ROWS, "validation": []})
    with pytest.raises(DataError, match="the validation split has 0 rows, too few for a single example"):
        encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(), store)


def test_a_tokenizer_of_another_model_is_refused(splits: Ref, tmp_path: Path, store: FolderStore) -> None:
    folder = make_llama(tmp_path / "llama", TEXTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    with pytest.raises(ModelError, match="but the model knows 50 ids: the two do not belong together"):
        encode(splits, TEXT, ModelConfig(base=str(folder)), TokenizeConfig(), store)


def test_encoding_says_how_much_was_cut_and_nothing_else(
    splits: Ref, store: FolderStore, bert: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("INFO", "tunesmith.features"):
        encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=6), store)
    assert [record.message for record in caplog.records if record.name == "tunesmith.features.encode"] == [
        "encode: 6 examples, 1 of them cut at 6 tokens"
    ]
    assert capfd.readouterr() == ("", "")


def test_how_a_model_is_adapted_is_no_part_of_encoding() -> None:
    code = code_identity(["tunesmith.features.encode"])
    assert "tunesmith.modeling.tokenizer" in code
    assert "tunesmith.modeling.load" not in code
