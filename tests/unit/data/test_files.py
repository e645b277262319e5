import gzip

import pytest

from tunesmith.data.files import find_files, find_nearest, open_lines, read_bytes
from tunesmith.errors import DataError


def lines_of(section):
    [file] = find_files(section)
    with open_lines(file, section.encoding) as lines:
        return list(lines)


def test_a_glob_is_its_files_by_name_and_skips_folders(tmp_path, config):
    for name in ("b.csv", "a.csv", "c.tsv", ".hidden.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d.csv").mkdir()
    assert [file.name for file in find_files(config("*.csv"))] == ["a.csv", "b.csv"]


def test_a_name_with_glob_characters_that_exists_is_that_file(tmp_path, config):
    (tmp_path / "rows[1].csv").write_text("x")
    assert [file.name for file in find_files(config("rows[1].csv"))] == ["rows[1].csv"]


def test_files_of_one_name_are_told_apart_in_keys_by_number_and_in_messages_by_path(tmp_path, config):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text("x")
    files = find_files(config("a/rows.csv", "b/rows.csv"))
    assert [file.name for file in files] == ["rows.csv", "rows.csv (2)"]
    assert [file.label for file in files] == [str(tmp_path / "a/rows.csv"), str(tmp_path / "b/rows.csv")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("revews.csv", r"no such file. Did you mean reviews.csv\?"),
        ("zzzzzzzz", "no such file. The folder holds folder.csv, notes, reviews.csv, rows.jsonl."),
        ("nowhere/a.csv", "There is no folder"),
        ("*.parquet", "matches no file. The folder holds"),
        ("folder.csv", "is a folder. Name its files"),
        ("notes", "does not say its format.*Set data.format"),
    ],
)
def test_a_name_that_leads_nowhere_is_answered_with_what_there_is(tmp_path, config, pattern, expected):
    (tmp_path / "reviews.csv").write_text("x")
    (tmp_path / "rows.jsonl").write_text("x")
    (tmp_path / "notes").write_text("x")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=expected):
        find_files(config(pattern))


def test_a_file_named_twice_is_refused(tmp_path, config):
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match="named twice"):
        find_files(config("a.csv", "*.csv"))


def test_mixed_formats_are_refused_by_name(tmp_path, config):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.jsonl").write_text("x")
    with pytest.raises(DataError, match=r"a\.csv is csv, .*b\.jsonl is jsonl"):
        find_files(config("a.csv", "b.jsonl"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_a_byte_order_mark_is_dropped(tmp_path, config, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "a.txt").write_bytes(f"{mark}één\nzwei\n".encode(encoding))
    assert lines_of(config("a.txt", encoding=encoding)) == ["één\n", "zwei\n"]


@pytest.mark.parametrize("size", [10, 40, 3000])
def test_a_truncated_gzip_file_is_named_with_what_to_do(tmp_path, config, size):
    whole = gzip.compress("".join(f"line {i * i}\n" for i in range(5000)).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[:size])
    with pytest.raises(DataError, match=r"a\.txt\.gz: the gzip data ends early.*again"):
        lines_of(config("a.txt.gz"))
    with pytest.raises(DataError, match="ends early"):
        read_bytes(find_files(config("a.txt.gz"))[0])


def test_damaged_gzip_data_is_named(tmp_path, config):
    whole = bytearray(gzip.compress(b"line\n" * 1000))
    whole[-6] ^= 1  # in the checksum
    (tmp_path / "a.txt.gz").write_bytes(whole)
    (tmp_path / "b.txt.gz").write_bytes(b"plain text")
    for name in ("a.txt.gz", "b.txt.gz"):
        with pytest.raises(DataError, match=rf"{name}: not valid gzip data"):
            lines_of(config(name))


def test_a_byte_that_is_not_in_the_encoding_is_located(tmp_path, config):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nna" + "ï".encode("cp1252") + b"ve\n")
    with pytest.raises(DataError, match=r"a\.txt:3: byte 10 of the file \(0xef\) is not utf-8.*data\.encoding.*cp1252"):
        lines_of(config("a.txt"))


def test_a_wrong_byte_far_into_the_file_is_located(tmp_path, config):
    before = "zwölf Äpfel\n" * 50_000
    (tmp_path / "a.txt").write_bytes(before.encode() + b"\xff\n")
    with pytest.raises(DataError, match=rf"a\.txt:50001: byte {len(before.encode()):,} of"):
        lines_of(config("a.txt"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (gzip.compress(b"x"), "add .gz to its name"),
        ("text".encode("utf-16"), "set data.encoding to utf-16"),
        (b"good" + "é".encode()[:1], "in the middle of a character|is not utf-8"),
    ],
)
def test_an_encoding_that_is_recognisably_another_is_named(tmp_path, config, content, expected):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=expected):
        lines_of(config("a.txt"))


def test_the_nearest_name_is_a_near_one():
    assert find_nearest("lable", ["text", "label"]) == " Did you mean label?"
    assert find_nearest("lable", ["text"]) == ""


def test_an_option_without_effect_is_refused_where_only_the_files_show_their_format(tmp_path, config):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"data\.delimiter has no effect on jsonl files, only on csv"):
        find_files(config("a.*", delimiter=";"))
