import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data.columns import CARRIED
from tunesmith.data.files import find_files
from tunesmith.data.readers import read_files
from tunesmith.errors import DataError


def read_all(section):
    return read_files(find_files(section), section)


def test_files_follow_each_other_and_rows_know_theirs(tmp_path, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\n\nb,2\n")
    (tmp_path / "b.csv").write_text("label,text\nx,c\n")
    reading = read_all(config("*.csv"))
    assert reading.rows.table.to_pydict() == {"text": ["a", "b", "c"], "label": ["1", "2", "x"]}
    assert [reading.rows.origins(row) for row in range(3)] == ["a.csv:2", "a.csv:4", "b.csv:2"]
    assert (reading.num_blank, reading.rows_of_file) == (1, (2, 1))


def test_files_with_other_columns_are_refused_with_the_difference(tmp_path, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    (tmp_path / "b.csv").write_text("text,stars,lang\na,1,x\n")
    with pytest.raises(
        DataError, match=r"b\.csv: other columns than .*a\.csv .*lacks label and has lang, stars besides"
    ):
        read_all(config("*.csv"))


def test_json_files_may_leave_keys_out(tmp_path, config):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b", "label": 1}\n')
    assert read_all(config("*.jsonl")).rows.table["label"].to_pylist() == [None, 1]


def test_one_file_without_rows_among_others_is_named(tmp_path, config):
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "b.csv").write_text("text\n\n")
    with pytest.raises(DataError, match=r"b\.csv: the file has no rows below its header"):
        read_all(config("*.csv"))


def test_a_type_is_that_of_all_files_together(tmp_path, config):
    pq.write_table(pa.table({"x": [1, 2], "y": ["1", "2"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [0.5], "y": [3]}), tmp_path / "b.parquet")
    table = read_all(config("*.parquet")).rows.table
    assert table["x"].to_pylist() == [1.0, 2.0, 0.5]
    assert table["y"].type == CARRIED
