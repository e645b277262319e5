"""Only what changed is encoded again, and the result is that of encoding all of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from split_rows import write_splits
from tunesmith.data import chunked
from tunesmith.features import encode as encode_module
from tunesmith.features import tokenizer_files
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.features.files import read_split
from tunesmith.kinds import text_classification, text_generation
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key, file_sha256
from tunesmith.store.ref import Ref

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text", max_new_tokens=8)
WORDS = ("good", "bad", "film", "story", "very")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 4)
    monkeypatch.setattr(chunked, "LEAST_ROWS", 2)


def make_rows(numbers: range | list[int]) -> list[dict[str, str]]:
    texts = [" ".join(WORDS[(number * step) % 5] for step in range(1, 2 + number % 9)) for number in numbers]
    return [
        {"row_id": f"{number:016x}", "text": text, "label": "odd" if number % 2 else "even"}
        for number, text in zip(numbers, texts, strict=True)
    ]


def make_splits(folder: Path, train: list[dict[str, str]], store: FolderStore) -> Ref:
    splits = Ref(kind="split", key=compute_key(train), uri=str(folder))
    held_out = make_rows(range(1000, 1006))
    tables = {"train": train, "validation": held_out[:3], "test": held_out[3:]}
    write_splits(splits, {name: pa.Table.from_pylist(rows) for name, rows in tables.items()}, store.chunks)
    return splits


def run(folder: Path, rows: list[dict[str, str]], store: FolderStore, base: Path, examples: Any = CLASSES) -> Ref:
    folder.mkdir(parents=True)
    tokenize = TokenizeConfig(max_length=6)
    return encode(make_splits(folder / "splits", rows, store), examples, ModelConfig(base=str(base)), tokenize, store)


def read_bytes(ref: Ref) -> dict[str, str]:
    files = [path for path in ref.folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(ref.folder).as_posix(): file_sha256(path) for path in files}


def count_encoded(monkeypatch: pytest.MonkeyPatch, kind: Any) -> list[list[str]]:
    """The row ids of each chunk that a kind encodes from now on."""
    encoded: list[list[str]] = []
    original = kind.encode

    def spy(table: pa.Table, *rest: Any) -> Any:
        encoded.append(table["row_id"].to_pylist())
        return original(table, *rest)

    monkeypatch.setattr(kind, "encode", spy)
    return encoded


@pytest.mark.parametrize(("kind", "examples", "base"), [(0, CLASSES, "bert"), (1, TEXT, "llama")])
def test_appended_rows_touch_the_last_chunk_alone_and_give_the_bytes_of_a_full_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: int, examples: Any, base: str
) -> None:
    folder, rows = request.getfixturevalue(base), make_rows(range(60))
    store = FolderStore(tmp_path / "store")
    run(tmp_path / "before", rows, store, folder, examples)
    encoded = count_encoded(monkeypatch, (text_classification, text_generation)[kind])
    more = run(tmp_path / "after", [*rows, *make_rows(range(60, 62))], store, folder, examples)
    ids = [row for chunk in encoded for row in chunk]
    assert {f"{number:016x}" for number in (60, 61)} <= set(ids)
    assert len(ids) < 20
    full = run(tmp_path / "full", [*rows, *make_rows(range(60, 62))], FolderStore(tmp_path / "other"), folder, examples)
    assert read_bytes(more) == read_bytes(full)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.lists(st.integers(0, 40), unique=True, max_size=4), position=st.integers(0, 39))
def test_any_change_gives_what_encoding_everything_gives(
    tmp_path: Path, bert: Path, changed: list[int], position: int
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    before = make_rows(range(40))
    after = [row for number, row in enumerate(before) if number not in changed]
    after = [*after[:position], *make_rows([77]), *after[position:]]
    shared, fresh = FolderStore(folder / "shared"), FolderStore(folder / "fresh")
    run(folder / "before", before, shared, bert)
    ref = run(folder / "after", after, shared, bert)
    assert read_bytes(ref) == read_bytes(run(folder / "full", after, fresh, bert))
    assert read_split(ref.folder, "train")["row_id"].to_pylist() == [row["row_id"] for row in after]


def test_a_new_label_encodes_everything_again_because_every_id_may_move(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = FolderStore(tmp_path / "store"), make_rows(range(30))
    run(tmp_path / "before", rows, store, bert)
    encoded = count_encoded(monkeypatch, text_classification)
    ref = run(tmp_path / "after", [*rows, {"row_id": "new", "text": "good", "label": "aaa"}], store, bert)
    assert ref.facts["labels"] == ["aaa", "even", "odd"]
    assert sum(len(chunk) for chunk in encoded) == 37


def test_a_damaged_chunk_is_encoded_again_and_the_artifact_is_whole(tmp_path: Path, bert: Path) -> None:
    store, rows = FolderStore(tmp_path / "store"), make_rows(range(30))
    first = run(tmp_path / "before", rows, store, bert)
    expected = read_bytes(first)
    for path in (store.root / "chunks" / "features").rglob("*.arrow"):
        content = path.read_bytes()
        path.unlink()  # a new file: the artifact holds the same one by a link
        path.write_bytes(content[:-9] + b"123456789")
    store.root.joinpath("artifacts").rename(tmp_path / "gone")
    assert read_bytes(run(tmp_path / "after", rows, store, bert)) == expected


def test_what_is_appended_is_encoded_without_transformers(tmp_path: Path, bert: Path) -> None:
    store, rows = FolderStore(tmp_path / "store"), make_rows(range(30))
    run(tmp_path / "before", rows, store, bert)
    splits = make_splits(tmp_path / "after", make_rows(range(33)), store)
    code = f"""
import pathlib, sys
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
splits = Ref(kind="split", key="after", uri={splits.uri!r})
examples = TextClassification(kind="text-classification", text="text", label="label")
store = FolderStore(pathlib.Path({str(store.root)!r}))
ref = encode(splits, examples, ModelConfig(base={str(bert)!r}), TokenizeConfig(max_length=6), store)
heavy = {{"torch", "transformers", "datasets"}} & set(sys.modules)
print(ref.is_cached, ref.facts["num_rows"]["train"], *sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.stdout.split(), done.stderr) == (["False", "33"], "")


def test_where_a_tokenizer_file_is_not_enough_transformers_is_asked_and_the_ids_are_the_same(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(tmp_path / "plain", make_rows(range(9)), FolderStore(tmp_path / "store"), bert)
    monkeypatch.setattr(tokenizer_files, "_is_same", lambda *_: False)
    asked = []
    monkeypatch.setattr(
        tokenizer_files,
        "make_encoder",
        lambda tokenizer, original=tokenizer_files.make_encoder: asked.append(1) or original(tokenizer),
    )
    ref = run(tmp_path / "other", make_rows(range(9)), FolderStore(tmp_path / "second"), bert)
    assert (len(asked), read_bytes(ref)) == (1, read_bytes(expected))


def test_a_chunk_that_fails_ends_the_stage_at_once_and_leaves_no_artifact(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun = FolderStore(tmp_path / "store"), []

    def fail(table: pa.Table, *_: Any) -> Any:
        begun.append(1)
        time.sleep(0.02)  # so that a busy machine comes to see that the first one failed
        raise OSError("disk full")

    monkeypatch.setattr(text_classification, "encode", fail)
    with pytest.raises(OSError, match="disk full"):
        run(tmp_path / "before", make_rows(range(400)), store, bert)
    assert len(begun) < 20
    assert not list((store.root / "artifacts").rglob("manifest.json"))


def test_an_interruption_does_not_wait_for_the_chunks_that_are_left(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, original = [], text_classification.encode

    def encode_slowly(*arguments: Any) -> Any:
        begun.append(1)
        time.sleep(0.005)
        return original(*arguments)

    class Clock:
        def __init__(self) -> None:
            self.times = iter([0.0])

        def monotonic(self) -> float:
            for now in self.times:
                return now
            raise KeyboardInterrupt  # when the first chunk is done

    monkeypatch.setattr(text_classification, "encode", encode_slowly)
    monkeypatch.setattr(encode_module, "time", Clock())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "before", make_rows(range(400)), FolderStore(tmp_path / "store"), bert)
    assert len(begun) < 20


def test_the_archive_of_the_tokenizer_does_not_say_when_it_was_written(tmp_path: Path, bert: Path) -> None:
    cache = FolderStore(tmp_path).chunks
    saved = tokenizer_files.ensure_tokenizer(cache, find_base(ModelConfig(base=str(bert))), 6)
    with zipfile.ZipFile(saved.archive) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(("vocab_size", "id_type"), [(None, pa.int32()), (1 << 16, pa.uint16()), (70_000, pa.int32())])
def test_ids_are_written_in_16_bits_where_the_model_knows_no_more(
    tmp_path: Path, bert: Path, vocab_size: int | None, id_type: pa.DataType
) -> None:
    folder = shutil.copytree(bert, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    if vocab_size is None:
        del config["vocab_size"]
    else:
        config["vocab_size"] = vocab_size
    (folder / "config.json").write_text(json.dumps(config))
    store = FolderStore(tmp_path / "store")
    ids = read_split(run(tmp_path / "run", make_rows(range(20)), store, folder).folder, "train")["input_ids"]
    other = read_split(run(tmp_path / "other", make_rows(range(20)), store, bert).folder, "train")["input_ids"]
    assert ids.type.value_type == id_type
    assert ids.to_pylist() == other.to_pylist()
