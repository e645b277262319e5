import gzip
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.errors import DataError


def parquet(table):
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_every_arrow_type_with_a_canonical_one_becomes_it(read):
    table = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "unsigned": pa.array([1, 2], pa.uint64()),
            "half": pa.array([0.5, None], pa.float32()),
            "large": pa.array(["a", None], pa.large_string()),
            "coded": pa.array(["a", "b"]).dictionary_encode(),
            "bytes": pa.array([b"a", b"b"]),
            "price": pa.array([Decimal("1.50"), Decimal("2.00")]),
            "day": pa.array([date(2024, 1, 2), None]),
            "time": pa.array([datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None], pa.timestamp("ns", "UTC")),
            "empty": pa.nulls(2),
            "flag": pa.array([True, None]),
        }
    )
    rows = read("a.parquet", parquet(table))
    assert rows.table.to_pylist()[0] == {
        "small": 1, "unsigned": 1, "half": 0.5, "large": "a", "coded": "a", "bytes": "a", "price": 1.5,
        "day": "2024-01-02", "time": "2024-01-02T03:04:05+00:00", "empty": None, "flag": True,
    }  # fmt: skip
    assert rows.table.schema.field("empty").type == pa.string()
    assert rows.origins(1) == "a.parquet row 2"


def test_nan_is_null(read):
    rows = read("a.parquet", parquet(pa.table({"x": [0.5, float("nan")]})))
    assert rows.table["x"].to_pylist() == [0.5, None]


def test_gzipped_reads_the_same(read):
    content = parquet(pa.table({"x": ["a"]}))
    assert read("a.parquet.gz", gzip.compress(content)).table.equals(read("a.parquet", content).table)


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path, read):
    (tmp_path / "year=2024").mkdir()
    assert read("year=2024/a.parquet", parquet(pa.table({"x": ["a"]}))).table.column_names == ["x"]


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 100), slice(0, -1), slice(1, None)])
def test_a_damaged_file_is_named(read, cut):
    content = parquet(pa.table({"x": ["a" * 100, "b"]}))
    with pytest.raises(DataError, match=r"a\.parquet: not a readable parquet file \(.+\).*write it again"):
        read("a.parquet", content[cut])


def test_a_file_without_rows_and_a_repeated_column_are_refused(read):
    with pytest.raises(DataError, match=r"a\.parquet: the file has no rows\."):
        read("a.parquet", parquet(pa.table({"x": pa.array([], pa.string())})))
    with pytest.raises(DataError, match="column 'x' is there twice"):
        read("a.parquet", parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])))
