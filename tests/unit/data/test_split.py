import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.data.chunked import ChunkedRows, compose
from tunesmith.data.partition import HASH_BYTES, PURPOSE, cut_fractions
from tunesmith.data.rows import as_fractions, hash_rows
from tunesmith.data.split import derive_split, divide, split
from tunesmith.data.split_config import SplitConfig
from tunesmith.errors import DataError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

REVIEWS = TextClassification(kind="text-classification", text="text", label="label")
PLAIN = SplitConfig()
ONE_TO_300 = [(f"text {number}", "neg" if number % 3 else "pos") for number in range(300)]


def table_of(rows):
    texts, labels = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [])
    return pa.table({"label": pa.array(labels, pa.string()), "text": pa.array(texts, pa.string())})


def config(**section):
    return SplitConfig.model_validate_json(json.dumps({"leakage": {"policy": "report"}, **section}))


def chunk(table, cache):
    hashes = hash_rows(table, table.column_names, purpose="tunesmith row")
    return compose(hashes, table.schema, lambda places: table.take(pa.array(places)), cache)


def places_of(rows, **changed):
    """The split of each text, by the rule alone: no split need have rows."""
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.3, **changed}
    seed = fractions.pop("seed", 0)
    hashes = hash_rows(table_of(rows), ["text"], purpose=PURPOSE, seed=seed, num_bytes=HASH_BYTES)
    codes = cut_fractions(as_fractions(hashes), **fractions)
    return {text: ("train", "validation", "test")[code] for (text, _), code in zip(rows, codes, strict=True)}


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "chunks")


def divide_table(table, cache, weights=None, **section):
    divided = divide(chunk(table, cache), config(**section), REVIEWS, weights or {}, cache)
    return {name: rows.read() for name, rows in divided.splits.items()}, divided.facts


rows_strategy = st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["pos", "neg"])), max_size=30)
many_rows = st.lists(st.tuples(st.integers(0, 60).map(str), st.sampled_from(["pos", "neg"])), min_size=60, max_size=90)
WAYS = [
    {},
    {"group": "label"},
    {"stratify": "label"},
    {"predefined": {"column": "label", "test": ["pos"]}},
    {"time": {"column": "text", "validation_from": "3", "test_from": "5"}},
]


@given(many_rows, st.sampled_from(WAYS))
@settings(max_examples=40, deadline=None)
def test_every_row_is_in_exactly_one_split_and_keeps_its_order(tmp_path_factory, rows, way):
    cache = ChunkCache(tmp_path_factory.mktemp("rows") / "chunks")
    try:
        parts, facts = divide_table(table_of(rows), cache, **way)
    except DataError:
        return  # some way leaves a split without rows, which is refused
    found = {
        name: list(zip(part["text"].to_pylist(), part["label"].to_pylist(), strict=True))
        for name, part in parts.items()
    }
    assert sorted(row for part in found.values() for row in part) == sorted(rows)
    assert list(found) == ["train", "validation", "test"]
    assert facts["num_rows"] == {name: len(part) for name, part in found.items()}
    for part in found.values():
        remaining = iter(rows)
        assert all(row in remaining for row in part)
    row_ids = [row_id for part in parts.values() for row_id in part["row_id"].to_pylist()]
    assert len(set(row_ids)) == len(rows)
    if way in WAYS[:1] or way in WAYS[2:3]:
        owners = {name: {text for text, _ in part} for name, part in found.items()}
        assert not owners["train"] & (owners["validation"] | owners["test"])


@given(rows_strategy, rows_strategy, st.randoms())
def test_rows_that_come_go_or_change_places_move_no_other(rows, others, generator):
    before = places_of(rows)
    changed = [row for row in rows if generator.random() < 0.7] + others
    generator.shuffle(changed)
    assert all(name == before.get(text, name) for text, name in places_of(changed).items())


def test_a_corrected_label_moves_no_row():
    assert places_of(ONE_TO_300) == places_of([(text, "neutral") for text, _ in ONE_TO_300])


@pytest.mark.parametrize(("validation", "test"), [(0.2, 0.3), (0.1, 0.1), (0.4, 0.05)])
def test_shares_are_about_as_asked(validation, test):
    many = [(f"text {number}", "x") for number in range(20_000)]
    found = [*places_of(many, validation_fraction=validation, test_fraction=test).values()]
    sizes = {name: found.count(name) / len(many) for name in ("train", "validation", "test")}
    assert sizes == pytest.approx({"train": 1 - validation - test, "validation": validation, "test": test}, abs=0.015)


def test_another_seed_is_another_split():
    assert places_of(ONE_TO_300, seed=1) != places_of(ONE_TO_300)


def test_a_larger_fraction_keeps_the_rows_that_were_in_test():
    def tested(**changed):
        return {text for text, name in places_of(ONE_TO_300, **changed).items() if name == "test"}

    assert tested(test_fraction=0.1) < tested(test_fraction=0.3)
    assert tested(validation_fraction=0.5) == tested()


def test_the_split_of_a_row_never_changes_between_versions():
    assert (
        "".join(name[1] for _, name in sorted(places_of(ONE_TO_300[:40]).items()))
        == "rereeaaaarrrreeeaeraaearraeeerreraarerre"
    )


def test_the_stage_puts_rows_where_the_rule_says(cache):
    parts, _ = divide_table(table_of(ONE_TO_300), cache, validation_fraction=0.2, test_fraction=0.3)
    expected = places_of(ONE_TO_300)
    assert {text: name for name, part in parts.items() for text in part["text"].to_pylist()} == expected


def test_stratify_gives_every_label_its_share_and_appended_rows_move_none(cache):
    rows = [(f"text {number}", f"label {number % 9}") for number in range(360)]
    parts, _ = divide_table(table_of(rows), cache, stratify="label", test_fraction=0.2)
    tested = parts["test"]["label"].value_counts().to_pylist()
    assert {item["counts"] for item in tested} <= {7, 8, 9}
    more, _ = divide_table(table_of([*rows, *ONE_TO_300]), cache, stratify="label", test_fraction=0.2)
    for name, part in parts.items():
        assert set(part["text"].to_pylist()) <= set(more[name]["text"].to_pylist()) | {text for text, _ in ONE_TO_300}


def test_rows_of_a_group_stay_together(cache):
    rows = table_of(ONE_TO_300).append_column("customer", pa.array([f"c{number % 40}" for number in range(300)]))
    parts, _ = divide_table(rows, cache, group="customer", validation_fraction=0.2, test_fraction=0.2)
    owners = [set(part["customer"].to_pylist()) for part in parts.values()]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 40


def test_newer_rows_test(cache):
    days = [f"2024-01-{1 + number % 30:02d}" for number in range(300)]
    rows = table_of(ONE_TO_300).append_column("day", pa.array(days))
    time = {"column": "day", "validation_from": "2024-01-21", "test_from": "2024-01-26"}
    parts, _ = divide_table(rows, cache, time=time)
    assert max(parts["train"]["day"].to_pylist()) == "2024-01-20"
    assert set(parts["validation"]["day"].to_pylist()) == {f"2024-01-{day}" for day in range(21, 26)}
    assert min(parts["test"]["day"].to_pylist()) == "2024-01-26"


def test_a_column_can_say_where_rows_belong_and_the_rest_is_drawn(cache):
    parts_of_it = ["test" if number < 50 else "train" for number in range(300)]
    rows = table_of(ONE_TO_300).append_column("part", pa.array(parts_of_it))
    parts, _ = divide_table(rows, cache, predefined={"column": "part", "test": ["test"]}, validation_fraction=0.2)
    assert parts["test"]["text"].to_pylist() == [f"text {number}" for number in range(50)]
    assert 30 <= parts["validation"].num_rows <= 70
    assert set(parts["validation"]["part"].to_pylist()) == {"train"}


def test_a_value_that_no_split_names_is_refused(cache):
    rows = table_of(ONE_TO_300).append_column("part", pa.array(["a", "b", "c"] * 100))
    told = {"column": "part", "train": ["a"], "test": ["b"]}
    with pytest.raises(DataError, match=r"'part' has 1 values that no split names \(c\) in 100 rows"):
        divide_table(rows, cache, predefined=told)


def test_weights_repeat_and_thin_the_rows_that_train_and_no_others(cache):
    sources = ["shop" if number % 2 else "web" for number in range(300)]
    rows = table_of(ONE_TO_300).append_column("source_name", pa.array(sources))
    plain, _ = divide_table(rows, cache)
    parts, facts = divide_table(rows, cache, {"shop": 2.0, "web": 0.5})
    assert parts["test"].equals(plain["test"])
    counts = {name: plain["train"]["source_name"].to_pylist().count(name) for name in ("shop", "web")}
    found = parts["train"]["source_name"].to_pylist()
    assert found.count("shop") == 2 * counts["shop"]
    assert abs(found.count("web") - counts["web"] / 2) < 20
    assert facts["left_out"] == {"thinned by its source's weight": counts["web"] - found.count("web")}


def test_weights_want_the_name_of_each_row_s_source(cache):
    with pytest.raises(DataError, match=r"transforms have dropped the column 'source_name'\. Keep it"):
        divide_table(table_of(ONE_TO_300), cache, {"shop": 2.0, "web": 0.5})
    rows = table_of(ONE_TO_300).append_column("source_name", pa.array(["Shop"] * 300))
    with pytest.raises(DataError, match=r"column 'source_name' has 'Shop', which is none\. Keep it"):
        divide_table(rows, cache, {"shop": 2.0, "web": 0.5})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"stratify": "lable"}, r"split.stratify: there is no column 'lable'.*Did you mean label"),
        ({"group": "note"}, r"split.group: column 'note' has no value in 150 of 300 rows"),
        ({"time": {"column": "label", "validation_from": 1, "test_from": 2}}, r"cannot be compared with test_from 2"),
        ({"predefined": {"column": "part", "test": ["x"]}}, r"there is no column 'part'"),
        ({"predefined": {"column": "label", "test": ["x"]}}, r"leaves test without rows: 300 rows"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_reason(cache, section, expected):
    rows = table_of(ONE_TO_300).append_column("note", pa.array([None, "x"] * 150))
    with pytest.raises(DataError, match=expected):
        divide_table(rows, cache, **section)


def test_splits_are_published_with_row_ids_and_found_again(tmp_path):
    store = FolderStore(tmp_path / "store")
    rows = chunk(table_of([*ONE_TO_300, ONE_TO_300[0]]), store.chunks)
    (tmp_path / "snapshot").mkdir()
    rows.write(tmp_path / "snapshot", store.chunks)
    snapshot = Ref(kind="snapshot", key=rows.key, uri=str(tmp_path / "snapshot"))
    ref = split(snapshot, config(), REVIEWS, {}, store)
    tables = {name: ChunkedRows.open(ref.folder, name).read() for name in ("train", "validation", "test")}
    assert all(table.column_names == ["row_id", "label", "text"] for table in tables.values())
    row_ids = [row_id for table in tables.values() for row_id in table["row_id"].to_pylist()]
    assert len(set(row_ids)) == 301
    assert sum(row_id.endswith("-2") for row_id in row_ids) == 1
    assert ref.facts["num_rows"] == {name: table.num_rows for name, table in tables.items()}
    assert split(snapshot, config(), REVIEWS, {}, store).is_cached


def test_the_key_depends_on_what_shapes_the_splits_and_on_no_file(tmp_path):
    store = FolderStore(tmp_path)

    def key(ref="k", split=PLAIN, examples=REVIEWS, weights=None):
        planned = Ref(kind="snapshot", key=ref, uri="/nowhere")
        return derive_split(planned, split, examples, weights or {}, store).key

    assert key(examples=REVIEWS.model_copy(update={"label": "stars"})) == key()
    others = [
        key("l"),
        key(split=SplitConfig(seed=1)),
        key(examples=REVIEWS.model_copy(update={"text": "body"})),
        key(weights={"shop": 2.0}),
    ]
    assert key() not in others


def test_the_code_of_a_kind_does_not_shape_the_splits(tmp_path):
    planned = Ref(kind="snapshot", key="k", uri="/nowhere")
    derivation = derive_split(planned, SplitConfig(), REVIEWS, {}, FolderStore(tmp_path))
    assert not [module for module in derivation.ingredients["code"] if "kinds" in module]


def test_an_empty_split_is_refused_with_the_counts(cache):
    with pytest.raises(DataError, match=r"without rows: 2 rows became \d train, \d validation, \d test .*add rows"):
        divide_table(table_of([("a", "1"), ("b", "2")]), cache)


@pytest.mark.parametrize(
    "section",
    [
        {"validation_fraction": 0.0},
        {"test_fraction": 1.0},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"group": "a", "stratify": "b"},
        {"predefined": {"column": "a"}},
        {"predefined": {"column": "a", "test": ["x"], "validation": ["x"]}},
        {"predefined": {"column": "a", "test": ["x"]}, "test_fraction": 0.1},
        {"time": {"column": "a", "validation_from": "2", "test_from": "1"}},
        {"time": {"column": "a", "validation_from": 1, "test_from": "2"}},
        {"time": {"column": "a", "validation_from": 1, "test_from": 2}, "seed": 3},
    ],
)
def test_sections_without_sense_or_effect_are_refused(section):
    with pytest.raises(ValidationError):
        config(**section)
