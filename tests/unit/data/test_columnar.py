import gzip
import io
import struct
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from tunesmith.data.blocks import BLOCK_ROWS
from tunesmith.data.columnar import read_columnar
from tunesmith.data.files import describe_file
from tunesmith.data.reader_options import ReaderOptions
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


def arrow(table, open_writer=pa.ipc.new_file):
    buffer = io.BytesIO()
    with open_writer(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.arrow", "a.feather", "a.arrow.gz"])
@pytest.mark.parametrize("open_writer", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_is_read_in_both_its_layouts(read, name, open_writer):
    content = arrow(pa.table({"text": ["a", "b", None, "d"], "n": [1, 2, 3, 4]}), open_writer)
    rows = read(name, gzip.compress(content) if name.endswith("gz") else content)
    assert rows.table.to_pydict() == {"text": ["a", "b", None, "d"], "n": [1, 2, 3, 4]}
    assert rows.origins(3) == f"{name} row 4"


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 100), slice(0, -40), slice(3, None)])
@pytest.mark.parametrize("open_writer", [pa.ipc.new_file, pa.ipc.new_stream])
def test_a_damaged_arrow_file_is_named(read, cut, open_writer):
    content = arrow(pa.table({"x": ["a" * 100, "b"] * 10}), open_writer)
    with pytest.raises(DataError, match=r"a\.arrow: not a readable arrow file \(.+\).*write it again"):
        read("a.arrow", content[cut])


def test_an_old_feather_file_is_recognised(read):
    with pytest.raises(DataError, match=r"a\.feather: not a readable arrow file \(Feather version 1"):
        read("a.feather", b"FEA1" + bytes(100))


@pytest.mark.parametrize("write_table", [pq.write_table, feather.write_feather])
def test_blocks_do_not_depend_on_how_the_file_is_cut(tmp_path, write_table):
    table = pa.table({"n": range(2 * BLOCK_ROWS + 7)})
    path = tmp_path / f"a.{'parquet' if write_table is pq.write_table else 'arrow'}"
    options = {"row_group_size": 777} if write_table is pq.write_table else {"chunksize": 777}
    write_table(table, path, **options)
    blocks = [*read_columnar(describe_file(path, ReaderOptions()))]
    assert [len(block.numbers) for block in blocks] == [BLOCK_ROWS, BLOCK_ROWS, 7]
    assert blocks[1].numbers[0] == BLOCK_ROWS + 1
    assert blocks[1].columns["n"][0].as_py() == BLOCK_ROWS


@pytest.mark.parametrize("open_writer", [pa.ipc.new_file, pa.ipc.new_stream])
def test_offsets_that_lead_out_of_the_file_are_not_followed(read, open_writer):
    content = arrow(pa.table({"x": [[7], [8, 9]]}), open_writer)
    offsets = struct.pack("<3i", 0, 1, 3)
    assert offsets in content
    with pytest.raises(DataError, match=r"a\.arrow: not a readable arrow file"):
        read("a.arrow", content.replace(offsets, struct.pack("<3i", 0, 1, 10**9)))
