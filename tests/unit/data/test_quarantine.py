import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from table_parts import part_of, parts_of
from tunesmith.data import quarantine
from tunesmith.data.breaches import check_fraction
from tunesmith.data.contract import ContractConfig
from tunesmith.data.quarantine import ROWS, publish_refused, refuse_rows
from tunesmith.data.selection import RowReader, Selection
from tunesmith.errors import DataError
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.folder import FolderStore

TABLE = pa.table(
    {
        "id": ["1", "2", "2", "four", "5", "5"],
        "label": ["pos", "neg", "pos", "neg", "maybe", "pos"],
    }
)
CONTRACT = {"id": {"type": "whole", "unique": True}, "label": {"type": "text", "allowed": ["pos", "neg"]}}


def contract(columns=CONTRACT, **options):
    return ContractConfig.model_validate_json(json.dumps({"columns": columns, **options}))


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "chunks")


def refuse(cache, *cuts, order=None, table=TABLE):
    selection = Selection(parts_of(table, cache, *cuts), None if order is None else np.array(order))
    kept, refused = refuse_rows(selection, contract(), cache)
    return RowReader(kept, kept.types, cache).take(np.arange(kept.num_rows)).to_pylist(), refused


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 5)])
def test_refused_rows_are_kept_with_their_line_and_every_reason(cache, cuts):
    kept, refused = refuse(cache, *cuts)
    assert kept == [{"id": 1, "label": "pos"}, {"id": 2, "label": "neg"}, {"id": 5, "label": "pos"}]
    rows = refused.table.to_pylist()
    assert [(row["file"], row["line"]) for row in rows] == [("rows.csv", 3), ("rows.csv", 4), ("rows.csv", 5)]
    assert json.loads(rows[1]["row"]) == {"id": "four", "label": "neg"}
    assert "id: repeats the value of an earlier row" in rows[0]["reasons"]
    assert "maybe" in rows[2]["reasons"]
    assert sum(refused.reasons.values()) == 3


def test_of_equal_values_the_first_in_turn_stays_and_a_refused_row_is_no_first(cache):
    kept, refused = refuse(cache, 3, order=[5, 4, 3, 2, 1, 0])
    assert kept == [{"id": 5, "label": "pos"}, {"id": 2, "label": "pos"}, {"id": 1, "label": "pos"}]
    assert refused.table["line"].to_pylist() == [5, 4, 2]


def test_a_refused_row_of_a_file_without_a_column_has_no_value_there(cache):
    tables = pa.table({"text": ["a", "007"], "label": ["1", "2"]}), pa.table({"text": ["b"]})
    parts = [part_of(table, cache, label=f"f{number}.jsonl") for number, table in enumerate(tables)]
    columns = contract({"text": {"type": "text", "max_length": 2}, "label": {"type": "whole"}})
    kept, refused = refuse_rows(Selection(tuple(parts)), columns, cache)
    assert kept.num_rows == 1
    assert [json.loads(row) for row in refused.table["row"].to_pylist()] == [
        {"text": "007", "label": "2"},
        {"text": "b", "label": None},
    ]
    with pytest.raises(DataError, match=r"label: no value +f1\.jsonl:1 +null"):
        check_fraction(refused.rows(), 2, 3, columns)


@given(
    st.lists(st.tuples(st.sampled_from("123x"), st.sampled_from(["pos", "neg", "new", None])), min_size=1, max_size=20),
    st.lists(st.integers(0, 20), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_every_row_is_kept_or_refused(tmp_path_factory, rows, cuts):
    cache = ChunkCache(tmp_path_factory.mktemp("rows") / "chunks")
    table = pa.table({"id": [row[0] for row in rows], "label": pa.array([row[1] for row in rows], pa.string())})
    selection = Selection(parts_of(table, cache, *(cut for cut in cuts if cut <= len(rows))))
    kept, refused = refuse_rows(selection, contract(), cache)
    assert kept.num_rows + refused.num_rows == len(rows)
    whole, alike = refuse_rows(Selection(parts_of(table, cache)), contract(), cache)
    assert refused.table.equals(alike.table)
    assert whole.num_rows == kept.num_rows


def test_rows_that_were_checked_are_not_checked_again(cache, monkeypatch):
    refuse(cache, 3)
    monkeypatch.setattr(quarantine, "find_breaches", lambda *_: pytest.fail("checked again"))
    assert refuse(cache, 3)[1].num_rows == 3


def test_the_same_refused_rows_are_kept_once(tmp_path):
    store = FolderStore(tmp_path / "store")
    _, refused = refuse(store.chunks)
    first, second = publish_refused(refused, store), publish_refused(refused, store)
    assert (first.key, second.is_cached) == (second.key, True)
    assert pa.parquet.read_table(first.folder / ROWS).num_rows == 3
    assert first.facts["num_rows"] == 3
