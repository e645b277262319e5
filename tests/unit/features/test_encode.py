from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from split_rows import write_splits
from tiny_models import TEXTS, WORDS, make_bart, make_bert, make_llama
from tunesmith.errors import DataError, ModelError, UserError
from tunesmith.features.encode import TokenizeConfig, derive_encode, encode
from tunesmith.features.files import read_split
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.modeling.load import load_tokenizer
from tunesmith.modeling.tokenizer import make_encoder
from tunesmith.store.code import code_identity
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import file_sha256
from tunesmith.store.ref import Ref

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text", max_new_tokens=8)
ROWS = {
    "train": [("good film", "pos"), ("bad film", "neg"), ("the story was very very bad", "neg")],
    "validation": [("we liked it", "pos")],
    "test": [("not good", "neg"), ("good", "pos")],
}


def make_table(pairs: list[tuple[str, str]]) -> pa.Table:
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    columns = {"row_id": [f"{number:016x}" for number in range(len(pairs))], "text": texts, "label": labels}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def make_splits(folder: Path, rows: dict[str, list[tuple[str, str]]], store: FolderStore) -> Ref:
    splits = Ref(kind="split", key="k" * 32, uri=str(folder))
    write_splits(splits, {split: make_table(pairs) for split, pairs in rows.items()}, store.chunks)
    return splits


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def splits(tmp_path: Path, store: FolderStore) -> Ref:
    return make_splits(tmp_path / "splits", ROWS, store)


def key(splits: Ref, base: Path, max_length: int | None = None, examples: Any = CLASSES, **model: Any) -> str:
    store, tokenize = FolderStore(Path("/nowhere")), TokenizeConfig(max_length=max_length)
    return derive_encode(splits, examples, ModelConfig(base=str(base), **model), tokenize, store).key


def test_features_of_every_split_are_there_with_their_counts(splits: Ref, store: FolderStore, bert: Path) -> None:
    ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=6), store)
    assert ref.facts == {
        "num_rows": {"train": 3, "validation": 1, "test": 2},
        "num_examples": {"train": 3, "validation": 1, "test": 2},
        "num_tokens": {"train": 14, "validation": 5, "test": 7},
        "num_tokens_read": {"train": 16, "validation": 5, "test": 7},
        "num_overflowing": {"train": 1, "validation": 0, "test": 0},
        "num_truncated": {"train": 1, "validation": 0, "test": 0},
        "num_dropped": {"train": 0, "validation": 0, "test": 0},
        "num_tokens_lost": {"train": 2, "validation": 0, "test": 0},
        "lost_row_fraction": {"train": 1 / 3, "validation": 0, "test": 0},
        "lost_token_fraction": {"train": 2 / 16, "validation": 0, "test": 0},
        "labels": ["neg", "pos"],
        "max_length": 6,
        "on_overflow": "truncate",
        "stride": 0,
        "pad_token_id": 0,
    }
    features = read_split(ref.folder, "train")
    assert features.column_names == ["row_id", "input_ids", "token_type_ids", "labels"]
    assert features["labels"].to_pylist() == [1, 0, 0]
    assert features["input_ids"].combine_chunks().value_lengths().to_pylist() == [4, 4, 6]


def test_the_tokenizer_goes_along_and_cuts_at_the_same_length(splits: Ref, store: FolderStore, bert: Path) -> None:
    ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=6), store)
    tokenizer = load_tokenizer(ref.folder / "tokenizer")
    row = tokenizer("the story was very very bad", truncation=True)
    assert row["input_ids"] == read_split(ref.folder, "train")["input_ids"][2].as_py()
    assert "token_type_ids" in row


def read_bytes(ref: Ref) -> dict[str, str]:
    files = sorted(path for path in ref.folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(ref.folder).as_posix(): file_sha256(path) for path in files}


def test_the_same_splits_give_the_same_bytes(splits: Ref, tmp_path: Path, bert: Path) -> None:
    first, second = (
        encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(), FolderStore(tmp_path / name))
        for name in ("a", "b")
    )
    assert read_bytes(first) == read_bytes(second)
    assert {"train.json", "tokenizer/tokenizer.json"} <= set(read_bytes(first))


def test_generation_features_are_blocks_of_each_split_alone(splits: Ref, store: FolderStore, llama: Path) -> None:
    ref = encode(splits, TEXT, ModelConfig(base=str(llama)), TokenizeConfig(max_length=8), store)
    assert ref.facts["labels"] == []
    for split, rows in ROWS.items():
        tokenizer = load_tokenizer(llama)
        ids = [token for text, _ in rows for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
        blocks = read_split(ref.folder, split)["input_ids"].to_pylist()
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


def test_more_new_tokens_than_leave_room_for_a_prompt_are_refused_before_training(splits: Ref, llama: Path) -> None:
    examples = TEXT.model_copy(update={"max_new_tokens": 64})
    with pytest.raises(ModelError, match=r"max_new_tokens is 64, but the model takes 64.*Set it to 63"):
        key(splits, llama, examples=examples)


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


def test_a_tokenizer_apart_from_a_model_that_looks_at_ends_reads_written_ones_alike(
    splits: Ref, tmp_path: Path, store: FolderStore
) -> None:
    base = make_bart(tmp_path / "bart", TEXTS)
    features = encode(splits, CLASSES, ModelConfig(base=str(base)), TokenizeConfig(), store)
    for folder in (base, features.folder / "tokenizer"):
        encoder = make_encoder(load_tokenizer(folder))
        ids = encoder.encode(pa.chunked_array([["good</s> film"]]), None).input_ids.tolist()
        assert ids.count(encoder.eos_token_id) == 1


def test_a_split_without_an_example_is_refused(tmp_path: Path, store: FolderStore, bert: Path) -> None:
    splits = make_splits(tmp_path / "splits", {**ROWS, "validation": []}, store)
    with pytest.raises(DataError, match="the validation split has 0 rows, too few for a single example"):
        encode(splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(), store)


def test_a_tokenizer_of_another_model_is_refused(splits: Ref, tmp_path: Path, store: FolderStore) -> None:
    folder = make_llama(tmp_path / "llama", TEXTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    told = "the token id [0-9]+ for '.*', but the model knows 50 ids: the two do not belong together"
    with pytest.raises(ModelError, match=told):
        encode(splits, TEXT, ModelConfig(base=str(folder)), TokenizeConfig(), store)


def test_a_token_that_the_model_does_not_know_is_refused_though_no_row_has_it(
    splits: Ref, tmp_path: Path, store: FolderStore
) -> None:
    folder = make_bert(tmp_path / "bert", [*WORDS, "zebra"])
    config = json.loads((folder / "config.json").read_text())
    known = config.pop("vocab_size") - 1
    (folder / "config.json").write_text(json.dumps({**config, "text_config": {"vocab_size": known}}))
    with pytest.raises(ModelError, match=rf"token id {known} for 'zebra', but the model knows {known} ids"):
        encode(splits, CLASSES, ModelConfig(base=str(folder)), TokenizeConfig(), store)


def test_a_token_that_was_added_is_refused_where_a_row_has_it_or_padding_is_made_of_it(
    splits: Ref, tmp_path: Path, store: FolderStore
) -> None:
    folder = make_bert(tmp_path / "bert", WORDS)
    known = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(folder)
    model = ModelConfig(base=str(folder))
    assert encode(splits, CLASSES, model, TokenizeConfig(), store).facts["num_examples"]["train"]
    other = FolderStore(tmp_path / "other")
    marked = make_splits(tmp_path / "marked", {**ROWS, "test": [("good <picture>", "pos")]}, other)
    with pytest.raises(
        ModelError, match=rf"id {known} for '<picture>', but the model knows {known} ids, and a row has"
    ):
        encode(marked, CLASSES, model, TokenizeConfig(), other)
    tokenizer.pad_token = "<picture>"
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=rf"id {known} for '<picture>'.*belong together.*resize_token_embeddings"):
        encode(splits, CLASSES, model, TokenizeConfig(), store)


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


def test_windows_are_counted_beside_the_rows_that_they_are_of(splits: Ref, store: FolderStore, bert: Path) -> None:
    tokenize = TokenizeConfig(max_length=5, on_overflow="window", stride=1)
    ref = encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize, store)
    assert ref.facts["num_rows"] == {"train": 3, "validation": 1, "test": 2}
    assert ref.facts["num_examples"] == {"train": 5, "validation": 1, "test": 2}
    assert ref.facts["num_overflowing"]["train"] == 1
    assert ref.facts["num_tokens_lost"] == ref.facts["num_truncated"] == {"train": 0, "validation": 0, "test": 0}
    assert (ref.facts["on_overflow"], ref.facts["stride"], ref.facts["max_length"]) == ("window", 1, 5)
    features = read_split(ref.folder, "train")
    assert features["window"].to_pylist() == [0, 0, 0, 1, 2]


def test_rows_that_are_dropped_are_counted_in_every_split(
    splits: Ref, store: FolderStore, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "tunesmith.features"):
        ref = encode(
            splits, CLASSES, ModelConfig(base=str(bert)), TokenizeConfig(max_length=5, on_overflow="drop"), store
        )
    assert ref.facts["num_dropped"] == {"train": 1, "validation": 0, "test": 0}
    assert ref.facts["lost_row_fraction"]["train"] == pytest.approx(1 / 3)
    assert ref.facts["lost_token_fraction"]["train"] == pytest.approx(8 / 16)
    assert read_split(ref.folder, "train").num_rows == 2
    assert "encode: 5 examples, 1 more rows dropped, longer than 5 tokens" in caplog.messages


def test_a_split_of_which_every_row_is_dropped_is_refused_by_its_name(
    tmp_path: Path, store: FolderStore, bert: Path
) -> None:
    splits = make_splits(tmp_path / "other", {**ROWS, "test": [("the story was very very bad", "neg")]}, store)
    tokenize = TokenizeConfig(max_length=5, on_overflow="drop")
    with pytest.raises(DataError, match=r"all 1 rows of the test split are longer than tokenize.max_length, 5 tokens"):
        encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize, store)


def test_stopping_names_the_rows_of_all_splits_their_tokens_and_the_choices(
    tmp_path: Path, store: FolderStore, bert: Path
) -> None:
    long = [("the story was very very bad " * 2, "neg")] * 7
    splits = make_splits(tmp_path / "other", {**ROWS, "test": [*ROWS["test"], *long]}, store)
    tokenize = TokenizeConfig(max_length=5, on_overflow="stop")
    with pytest.raises(
        DataError,
        match=r"8 of 13 rows are longer than tokenize.max_length, 5 tokens: "
        r"train: row 0000000000000002 \(8 tokens\); "
        r"test: row 0000000000000002 \(14 tokens\), .*row 0000000000000006 \(14 tokens\) and 2 more. "
        r"Raise .* truncate .*window .*drop",
    ):
        encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize, store)
    assert encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize.model_copy(update={"max_length": 14}), store)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 2}, "has no effect with on_overflow: truncate"),
        ({"on_overflow": "drop", "stride": 1}, "has no effect with on_overflow: drop"),
        ({"on_overflow": "window", "max_length": 8, "stride": 8}, "must move on"),
        ({"on_overflow": "window", "stride": -1}, "greater than or equal to 0"),
        ({"on_overflow": "cut"}, "'truncate', 'window', 'drop' or 'stop'"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenizeConfig(**fields)


def test_a_stride_beyond_the_default_length_is_refused_before_anything_is_computed(splits: Ref, bert: Path) -> None:
    tokenize = TokenizeConfig(on_overflow="window", stride=64)
    with pytest.raises(ModelError, match="stride is 64, but an example has at most 64 tokens"):
        derive_encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize, FolderStore(Path("/nowhere")))


@pytest.mark.parametrize("fields", [{"on_overflow": "drop"}, {"on_overflow": "window", "stride": 1}])
def test_for_generation_what_becomes_of_long_rows_is_refused(splits: Ref, llama: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no effect on text-generation, which cuts no text short; remove it"):
        derive_encode(
            splits, TEXT, ModelConfig(base=str(llama)), TokenizeConfig(**fields), FolderStore(Path("/nowhere"))
        )


def test_another_policy_is_another_artifact(splits: Ref, bert: Path) -> None:
    keys = {
        derive_encode(splits, CLASSES, ModelConfig(base=str(bert)), tokenize, FolderStore(Path("/nowhere"))).key
        for tokenize in (
            TokenizeConfig(),
            TokenizeConfig(on_overflow="truncate"),
            TokenizeConfig(on_overflow="drop"),
            TokenizeConfig(on_overflow="window"),
            TokenizeConfig(on_overflow="window", stride=3),
        )
    }
    assert len(keys) == 4


def test_options_may_be_read_back_from_what_they_were_written_as() -> None:
    for tokenize in (TokenizeConfig(), TokenizeConfig(on_overflow="window", stride=3)):
        assert TokenizeConfig.model_validate_json(tokenize.model_dump_json()) == tokenize
