import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.chunked import read_chunk
from tunesmith.data.rows import compute_digest, hash_rows, write_rows

TABLE = pa.table({"n": [1, None, 3], "text": ["a", "", None], "x": [0.5, 1.5, None], "flag": [True, False, None]})


def digest(table):
    return compute_digest(table.schema, hash_rows(table, table.column_names, purpose="tunesmith row"))


cells = st.one_of(st.none(), st.text(alphabet="ab:-1é", max_size=4))
pairs = st.lists(st.tuples(cells, cells), min_size=2, max_size=2)


def table_of(rows):
    return pa.table(
        {"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.string())}
    )


def test_the_digest_is_the_same_on_every_machine():
    assert digest(TABLE) == "3194f7f742e469c25392b661eba34193067f51057ddb66fd6fc6346a975822a9"


def test_the_digest_does_not_depend_on_how_the_table_lies_in_memory():
    many = pa.table({"text": [f"t{i}" if i % 3 else None for i in range(100)], "n": list(range(100))})
    chunked = pa.concat_tables([many.slice(0, 7), many.slice(7, 20), many.slice(27)])
    assert digest(many) == digest(chunked) == digest(pa.concat_tables([many, many]).slice(0, 100))
    assert digest(many) != digest(many.slice(0, 99))


@pytest.mark.parametrize(
    "other",
    [
        TABLE.set_column(0, "n", pa.array([1, None, 4])),
        TABLE.set_column(0, "n", pa.array([1, 0, 3])),
        TABLE.set_column(0, "m", TABLE["n"]),
        TABLE.set_column(0, "n", pa.array(["1", None, "3"])),
        TABLE.set_column(1, "text", pa.array(["", "a", None])),
        TABLE.set_column(1, "text", pa.array(["a", None, ""])),
        TABLE.take(pa.array([1, 0, 2])),
        TABLE.slice(0, 2),
        TABLE.drop_columns("flag"),
    ],
)
def test_any_change_of_a_cell_a_name_a_type_or_the_order_changes_the_digest(other):
    assert digest(TABLE) != digest(other)


@given(pairs)
def test_two_rows_hash_alike_only_if_they_are_equal(rows):
    first, second = hash_rows(table_of(rows), ["a", "b"], purpose="test")
    assert (first == second).all() == (rows[0] == rows[1])


@given(pairs, pairs)
def test_two_tables_digest_alike_only_if_they_are_equal(some, others):
    assert (digest(table_of(some)) == digest(table_of(others))) == (some == others)


def test_a_row_keeps_its_hash_when_other_rows_change_its_columns_type():
    def first_hash(values):
        return hash_rows(pa.table({"x": values}), ["x"], purpose="test")[0].tolist()

    assert first_hash([1]) == first_hash([1.0, 2.5]) == first_hash(["1", "a"])
    assert first_hash([0.1]) == first_hash(["0.1", "a"])
    assert first_hash([True]) == first_hash(["true", "a"])


def test_purpose_seed_and_columns_count():
    hashes = {
        bytes(hash_rows(TABLE, columns, purpose=purpose, seed=seed)[0])
        for columns in (["n"], ["text"], ["n", "text"], ["text", "n"])
        for purpose in ("a", "b")
        for seed in (0, 1, 2**64 - 1)
    }
    assert len(hashes) == 4 * 2 * 3


def test_a_row_has_one_hash_in_every_process_and_version():
    hashes = hash_rows(pa.table({"x": ["a", None]}), ["x"], purpose="tunesmith row")
    code = (
        "import pyarrow as pa; from tunesmith.data.rows import *;"
        "print(hash_rows(pa.table({'x': ['a', None]}), ['x'], purpose='tunesmith row').tobytes().hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == hashes.tobytes().hex()
    assert printed == "2d220df5b57aaaaed1ccf0f2eb26874be0f30d8b88b24abd5a147f03c4b8a8b2"


def test_a_written_table_is_read_back_and_equal_tables_give_equal_bytes(tmp_path):
    write_rows(TABLE, tmp_path / "a.parquet")
    write_rows(pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]), tmp_path / "b.parquet")
    assert read_chunk(tmp_path / "a.parquet").equals(TABLE)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
