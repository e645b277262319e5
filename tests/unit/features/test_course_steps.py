"""The steps of the Hugging Face course from rows to batches, as sections of a recipe."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from projects import make_classification, review_rows
from split_rows import write_splits
from tunesmith.features.batching import Features, make_collator, plan_batches
from tunesmith.features.encode import encode
from tunesmith.features.files import read_split
from tunesmith.kinds import find_kind
from tunesmith.modeling.tokenizer import load_tokenizer
from tunesmith.recipe import Recipe
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

WINDOWS = ("tokenize.max_length=8", "tokenize.on_overflow=window", "tokenize.stride=2")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classification(tmp_path_factory.mktemp("project"))


def make_tables() -> dict[str, pa.Table]:
    rows = [{"row_id": f"{number:016x}", **row} for number, row in enumerate(review_rows(60))]
    bounds = {"train": (0, 40), "validation": (40, 50), "test": (50, 60)}
    return {split: pa.Table.from_pylist(rows[start:end]) for split, (start, end) in bounds.items()}


def encode_with(recipe: Recipe, folder: Path) -> Ref:
    store, splits = FolderStore(folder / "store"), Ref(kind="split", key="splits", uri=str(folder / "splits"))
    write_splits(splits, make_tables(), store.chunks)
    return encode(splits, recipe.examples, recipe.model, recipe.tokenize, store)


def test_overflowing_tokens_with_the_old_columns_removed_or_repeated(recipe: Path, tmp_path: Path) -> None:
    wanted = Recipe.load(recipe, WINDOWS, environ={"TUNESMITH_HOME": str(tmp_path)})
    features = read_split(encode_with(wanted, tmp_path).folder, "train")
    table = make_tables()["train"]
    expected = load_tokenizer(Path(wanted.model.base))(
        table["text"].to_pylist(), truncation=True, max_length=8, stride=2, return_overflowing_tokens=True
    )
    rows = expected["overflow_to_sample_mapping"]
    assert len(rows) > len(set(rows)) == 40
    assert features["input_ids"].to_pylist() == expected["input_ids"]
    assert "text" not in features.column_names
    assert features["row_id"].to_pylist() == [table["row_id"][row].as_py() for row in rows]
    assert features["labels"].to_pylist() == [
        ["negative", "positive"].index(table["label"][row].as_py()) for row in rows
    ]


def test_each_batch_is_padded_to_its_own_longest_example(recipe: Path, tmp_path: Path) -> None:
    wanted = Recipe.load(recipe, environ={"TUNESMITH_HOME": str(tmp_path)})
    ref = encode_with(wanted, tmp_path)
    features, collate = Features(read_split(ref.folder, "train")), make_collator(find_kind(wanted.examples), 0)
    lengths, widths = features.lengths, set()
    for batch in plan_batches(lengths, 4, group_by_length=True, seed=0, epoch=0):
        tensors = collate(features.take(batch))
        widths.add(tensors["input_ids"].shape[1])
        assert tensors["input_ids"].shape == (len(batch), lengths[batch].max())
        assert tensors["attention_mask"].sum(dim=1).tolist() == lengths[batch].tolist()
    assert len(widths) > 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("tokenize.stride=2",), "has no effect with on_overflow: truncate"),
        (("tokenize.on_overflow=windows",), "did you mean 'window'"),
        ((*WINDOWS[:2], "tokenize.stride=8"), "must move on"),
    ],
)
def test_options_that_cannot_work_are_refused_with_their_place(
    recipe: Path, overrides: tuple[str, ...], message: str
) -> None:
    from tunesmith.errors import RecipeError

    with pytest.raises(RecipeError, match=rf"(?s)tokenize\.(stride|on_overflow): .*{message}"):
        Recipe.load(recipe, overrides, environ={})
