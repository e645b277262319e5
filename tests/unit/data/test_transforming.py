import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from table_parts import parts_of
from tunesmith.data import transforming
from tunesmith.data.columns import from_values
from tunesmith.data.selection import RowReader, Selection
from tunesmith.data.sources import DataConfig
from tunesmith.data.transforming import Account, transform_rows
from tunesmith.errors import DataError
from tunesmith.store.chunks import ChunkCache

TABLE = pa.table(
    {
        "text": [f" word{number % 11} and {number} " for number in range(60)],
        "stars": [str(number % 5) if number % 13 else "n/a" for number in range(60)],
    }
)
STEPS = [
    {"drop_duplicates": ["stars"]},
    {"take": 17},
    {"shuffle": {"seed": 1}},
    {"shuffle": {"seed": 2}},
    {"sample": {"num_rows": 20, "seed": 3}},
    {"sample": {"fraction": 0.7, "seed": 3}},
    {"filter": {"column": "text", "none_of": [" word3 and 3 ", " word4 and 4 "]}},
    {"map": {"text": ["strip", "lower"]}},
    {"rename": {"stars": "stars"}},
    {"derive": {"into": "length", "length_of": "text", "unit": "words"}},
]


def transforms(*steps):
    section = {"sources": [{"files": ["a.csv"]}], "transforms": steps}
    return DataConfig.model_validate_json(json.dumps(section)).transforms


def run(steps, cache, *cuts, table=TABLE):
    account = Account()
    selection = transform_rows(Selection(parts_of(table, cache, *cuts)), transforms(*steps), cache, account)
    rows = RowReader(selection, selection.types, cache).take(np.arange(selection.num_rows))
    return rows, account, selection


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "chunks")


@given(st.lists(st.sampled_from(STEPS), max_size=4), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=60, deadline=None)
def test_wherever_the_rows_are_cut_in_parts_the_result_is_the_same(tmp_path_factory, steps, cuts):
    steps = [step for number, step in enumerate(steps) if "derive" not in step or step not in steps[:number]]
    cache = ChunkCache(tmp_path_factory.mktemp("rows") / "chunks")
    whole, booked, _ = run(steps, cache)
    parts, account, _ = run(steps, cache, *cuts)
    assert parts.equals(whole)
    assert account.steps == booked.steps
    assert all(step["rows_in"] == step["rows_out"] + sum(step["dropped"].values()) for step in account.steps)
    assert [step["rows_in"] for step in account.steps[1:]] == [step["rows_out"] for step in account.steps[:-1]]


def test_types_are_those_of_all_rows_that_are_left_when_a_transform_looks_at_them(cache):
    rows, _, _ = run(
        [{"filter": {"column": "stars", "none_of": ["n/a"]}}, {"filter": {"column": "stars", "range": {"min": 3}}}],
        cache,
        30,
    )
    assert set(rows["stars"].to_pylist()) == {3, 4}


def test_a_shuffle_mixes_all_parts_and_a_later_filter_keeps_its_order(cache):
    mixed, _, _ = run([{"shuffle": {"seed": 5}}], cache, 20, 40)
    kept, _, _ = run([{"shuffle": {"seed": 5}}, {"filter": {"column": "stars", "one_of": ["2"]}}], cache, 20, 40)
    texts = mixed.filter(pa.compute.equal(mixed["stars"], "2"))["text"].to_pylist()
    assert kept["text"].to_pylist() == texts
    assert mixed["text"].to_pylist() != TABLE["text"].to_pylist()
    assert sorted(mixed["text"].to_pylist()) == sorted(TABLE["text"].to_pylist())
    assert mixed["text"].to_pylist() != run([{"shuffle": {"seed": 6}}], cache)[0]["text"].to_pylist()


def test_shuffle_and_take_are_the_courses_shuffle_and_select(cache):
    rows, account, _ = run([{"shuffle": {"seed": 42}}, {"take": 10}], cache, 25)
    mixed, _, _ = run([{"shuffle": {"seed": 42}}], cache)
    assert rows["text"].to_pylist() == mixed["text"].to_pylist()[:10]
    assert account.steps[1] == {
        "step": "take", "rows_in": 60, "rows_out": 10, "dropped": {"beyond the first 10": 50},
    }  # fmt: skip


def spread(batch):
    """Each text as often as it has words, under its own number."""
    rows = [(row, word) for row, text in enumerate(batch["text"]) for word in text.split()]
    return {"_row": [row for row, _ in rows], "text": [f"{row} {word}" for row, word in rows]}


@pytest.mark.parametrize("grow", [{"explode": ["text"]}, {"function": {"path": f"{__name__}:spread", "batched": True}}])
@pytest.mark.parametrize(
    "local", [{"rename": {"text": "text"}}, {"filter": {"column": "text", "characters": {"min": 4}}}]
)
def test_rows_that_came_of_one_row_are_shuffled_one_by_one_and_stay_so(cache, grow, local):
    texts = TABLE["text"].to_pylist()
    lists = pa.table({"text": from_values([text.split() for text in texts])})
    table = lists if "explode" in grow else TABLE.select(["text"])
    mixed, _, _ = run([grow, {"shuffle": {"seed": 0}}], cache, 20, 40, table=table)
    rows, _, _ = run([grow, {"shuffle": {"seed": 0}}, local], cache, 20, 40, table=table)
    kept = {*rows["text"].to_pylist()}
    assert rows["text"].to_pylist() == [text for text in mixed["text"].to_pylist() if text in kept]
    assert mixed.num_rows == 180


def test_the_first_of_equal_rows_stays_across_parts(cache):
    rows, account, selection = run([{"drop_duplicates": ["stars"]}], cache, 1, 2, 30)
    assert rows["stars"].to_pylist() == ["n/a", "1", "2", "3", "4", "0"]
    assert account.dropped == {"duplicate stars": 54}
    assert sum(part.num_rows for part in selection.parts) == 6


def test_only_the_part_that_changed_is_mapped_again(cache, monkeypatch):
    steps = [{"map": {"text": ["strip"]}}]
    run(steps, cache, 20, 40)
    mapped = []
    apply_local = transforming.apply_local
    monkeypatch.setattr(
        transforming, "apply_local", lambda rows, step: mapped.append(rows.table.num_rows) or apply_local(rows, step)
    )
    texts = TABLE["text"].to_pylist()
    texts[25] = "another"
    rows, _, _ = run(steps, cache, 20, 40, table=TABLE.set_column(0, "text", pa.array(texts)))
    assert mapped == [20]
    assert rows["text"][25].as_py() == "another"


def test_a_sample_keeps_as_many_rows_as_asked_in_their_order(cache):
    rows, _, _ = run([{"sample": {"num_rows": 12, "seed": 1}}], cache, 33)
    texts = TABLE["text"].to_pylist()
    places = [texts.index(text) for text in rows["text"].to_pylist()]
    assert len(places) == 12
    assert places == sorted(places)


def test_a_transform_that_leaves_nothing_is_named(cache):
    with pytest.raises(DataError, match=r"transform filter: drops all of the 60 rows that reach it \(.+\)"):
        run([{"filter": {"column": "stars", "one_of": ["nine"]}}], cache, 10)


def test_duplicates_of_a_column_that_is_not_there_are_refused(cache):
    with pytest.raises(DataError, match=r"drop_duplicates: there is no column 'txt'.*Did you mean text"):
        run([{"drop_duplicates": ["txt"]}], cache)


def test_a_damaged_part_is_mapped_again(cache):
    random.seed(1)
    _, _, selection = run([{"map": {"text": ["strip"]}}], cache, 20)
    for part in selection.parts:
        cache.find(part.kind, part.key).path.write_bytes(b"damaged")
    rows, _, _ = run([{"map": {"text": ["strip"]}}], cache, 20)
    assert rows["text"][0].as_py() == "word0 and 0"
