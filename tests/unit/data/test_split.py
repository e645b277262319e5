import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.data.partition import assign_splits, partition
from tunesmith.data.rows import read_rows
from tunesmith.data.snapshot import read_snapshot, snapshot
from tunesmith.data.split import SplitConfig, count_splits, derive_split, split
from tunesmith.errors import DataError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

REVIEWS = TextClassification(kind="text-classification", text="text", label="label")
FRACTIONS = {"validation_fraction": 0.2, "test_fraction": 0.3, "seed": 0}
ONE_TO_300 = [(f"text {number}", "neg" if number % 3 else "pos") for number in range(300)]


def table_of(rows):
    texts, labels = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [])
    return pa.table({"label": pa.array(labels, pa.string()), "text": pa.array(texts, pa.string())})


def split_of(rows, columns=("text",), **changed):
    table = table_of(rows)
    parts = partition(table, assign_splits(table, columns, **{**FRACTIONS, **changed}))
    return {
        name: list(zip(part["text"].to_pylist(), part["label"].to_pylist(), strict=True))
        for name, part in parts.items()
    }


def places(rows, **changed):
    return {text: name for name, part in split_of(rows, **changed).items() for text, _ in part}


rows_strategy = st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["pos", "neg"])), max_size=30)


@given(rows_strategy)
def test_every_row_is_in_exactly_one_split_and_keeps_its_order(rows):
    parts = split_of(rows)
    assert sorted(row for part in parts.values() for row in part) == sorted(rows)
    assert list(parts) == ["train", "validation", "test"]
    for part in parts.values():
        remaining = iter(rows)
        assert all(row in remaining for row in part)


@given(rows_strategy, rows_strategy, st.randoms())
def test_rows_that_come_go_or_change_places_move_no_other(rows, others, generator):
    before = places(rows)
    changed = [row for row in rows if generator.random() < 0.7] + others
    generator.shuffle(changed)
    assert all(name == before.get(text, name) for text, name in places(changed).items())


def test_a_corrected_label_moves_no_row():
    assert places(ONE_TO_300) == places([(text, "neutral") for text, _ in ONE_TO_300])


def test_a_new_text_that_changes_a_columns_type_moves_no_row():
    texts = [str(number) for number in range(50)]
    numbers = pa.table({"x": pa.array(range(50), pa.int64())})
    words = pa.table({"x": [*texts, "fifty"]})
    before, after = (assign_splits(table, ["x"], **FRACTIONS)["test"].tolist() for table in (numbers, words))
    assert before == after[:50]


@pytest.mark.parametrize(("validation", "test"), [(0.2, 0.3), (0.1, 0.1), (0.4, 0.05)])
def test_shares_are_about_as_asked(validation, test):
    many = [(f"text {number}", "x") for number in range(20_000)]
    parts = split_of(many, validation_fraction=validation, test_fraction=test)
    sizes = {name: len(part) / len(many) for name, part in parts.items()}
    assert sizes == pytest.approx({"train": 1 - validation - test, "validation": validation, "test": test}, abs=0.015)


def test_another_seed_is_another_split():
    assert split_of(ONE_TO_300, seed=1)["test"] != split_of(ONE_TO_300)["test"]


def test_a_larger_fraction_keeps_the_rows_that_were_in_test():
    small, large = (set(split_of(ONE_TO_300, test_fraction=share)["test"]) for share in (0.1, 0.3))
    assert small < large
    assert split_of(ONE_TO_300, validation_fraction=0.5)["test"] == split_of(ONE_TO_300)["test"]


def test_the_split_of_a_row_never_changes_between_versions():
    assert (
        "".join(name[1] for _, name in sorted(places(ONE_TO_300[:40]).items()))
        == "rereeaaaarrrreeeaeraaearraeeerreraarerre"
    )


@pytest.fixture
def data(tmp_path, config):
    random.seed(0)
    lines = [f"{text},{label}" for text, label in ONE_TO_300]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines, lines[0]]))
    return config("a.csv")


def test_splits_are_published_with_row_ids_and_counted_alike(tmp_path, data):
    store = FolderStore(tmp_path / "store")
    rows = snapshot(data, REVIEWS, store)
    ref = split(rows, SplitConfig(), REVIEWS, store)
    tables = {name: read_rows(ref.folder / f"{name}.parquet") for name in ("train", "validation", "test")}
    assert all(table.column_names == ["row_id", "label", "text"] for table in tables.values())
    row_ids = [row_id for table in tables.values() for row_id in table["row_id"].to_pylist()]
    assert len(set(row_ids)) == 301
    assert sum(row_id.endswith("-2") for row_id in row_ids) == 1
    assert ref.facts == {"num_rows": {name: table.num_rows for name, table in tables.items()}}
    assert count_splits(read_snapshot(data, REVIEWS)[2], SplitConfig(), REVIEWS) == ref.facts["num_rows"]
    assert split(rows, SplitConfig(), REVIEWS, store).is_cached


def test_the_key_depends_on_what_shapes_the_splits_and_on_no_file():
    planned = Ref(kind="snapshot", key="k", uri="/nowhere")
    key = derive_split(planned, SplitConfig(), REVIEWS).key
    assert derive_split(planned, SplitConfig(), REVIEWS.model_copy(update={"label": "stars"})).key == key
    others = [
        derive_split(Ref(kind="snapshot", key="l", uri="/nowhere"), SplitConfig(), REVIEWS),
        derive_split(planned, SplitConfig(seed=1), REVIEWS),
        derive_split(planned, SplitConfig(), REVIEWS.model_copy(update={"text": "body"})),
    ]
    assert key not in {other.key for other in others}


def test_the_code_of_a_kind_does_not_shape_the_splits():
    derivation = derive_split(Ref(kind="snapshot", key="k", uri="/nowhere"), SplitConfig(), REVIEWS)
    assert not [module for module in derivation.ingredients["code"] if "kinds" in module]


def test_an_empty_split_is_refused_with_the_counts(tmp_path, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    _, _, table = read_snapshot(config("a.csv"), REVIEWS)
    with pytest.raises(DataError, match=r"without rows: 2 rows became \d train, \d validation, \d test .*Add rows"):
        count_splits(table, SplitConfig(), REVIEWS)


@pytest.mark.parametrize(
    "fractions",
    [{"validation_fraction": 0.0}, {"test_fraction": 1.0}, {"validation_fraction": 0.5, "test_fraction": 0.5}],
)
def test_fractions_that_leave_a_split_empty_are_refused(fractions):
    with pytest.raises(ValidationError):
        SplitConfig(**fractions)
