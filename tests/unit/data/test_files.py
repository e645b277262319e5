import json

import pytest

from tunesmith.data.files import SourceFile, check_one_format, describe_file, find_local_files, tell_apart
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError


def find_all(source):
    return tell_apart(find_local_files(source.files, source))


def test_a_glob_is_its_files_by_name_and_skips_folders(tmp_path, write, source):
    for name in ("b.csv", "a.csv", "c.tsv", ".hidden.csv"):
        write(name, "x")
    (tmp_path / "d.csv").mkdir()
    assert [file.name for file in find_all(source("*.csv"))] == ["a.csv", "b.csv"]


def test_nothing_is_a_pattern_of_what_the_folder_of_the_recipe_is_called(tmp_path, write):
    for name in ("exp[1]/a.csv", "exp[1]/b[2].csv", "exp1/a.csv", "exp1/c.csv"):
        write(name, "x")

    def find(name):
        section = json.dumps({"sources": [{"files": [name]}]})
        [source] = DataConfig.model_validate_json(section, context={"folder": tmp_path / "exp[1]"}).sources
        return [file.path for file in find_local_files(source.files, source)]

    folder = tmp_path / "exp[1]"
    assert find("*.csv") == [folder / "a.csv", folder / "b[2].csv"]
    assert find("[ac].csv") == find("a.csv") == [folder / "a.csv"]
    assert find("b[2].csv") == [folder / "b[2].csv"]
    assert find(str(tmp_path / "exp1/*.csv")) == [tmp_path / "exp1/a.csv", tmp_path / "exp1/c.csv"]
    with pytest.raises(DataError, match=r"exp\[1\]/c\.csv: no such file"):
        find("c.csv")
    with pytest.raises(DataError, match=r"exp\[1\]/\*\.tsv: matches no file\. The folder holds a\.csv, b\[2\]\.csv"):
        find("*.tsv")


def test_a_name_with_glob_characters_that_exists_is_that_file(write, source):
    write("rows[1].csv", "x")
    assert [file.name for file in find_all(source("rows[1].csv"))] == ["rows[1].csv"]


def test_files_of_one_name_are_told_apart_by_number_and_in_messages_by_path(tmp_path, write, source):
    write("a/rows.csv", "x")
    write("b/rows.csv", "x")
    files = find_all(source("a/rows.csv", "b/rows.csv"))
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
        ("notes", "does not say its format.*Set the source's format"),
    ],
)
def test_a_name_that_leads_nowhere_is_answered_with_what_there_is(tmp_path, write, source, pattern, expected):
    for name in ("reviews.csv", "rows.jsonl", "notes"):
        write(name, "x")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=expected):
        find_all(source(pattern))


def test_a_file_named_twice_is_refused(write, source):
    write("a.csv", "x")
    with pytest.raises(DataError, match=r"a\.csv is named twice"):
        find_all(source("a.csv", "*.csv"))


def test_mixed_formats_in_one_source_are_refused_by_name(write, source):
    write("a.csv", "x")
    write("b.jsonl", "x")
    with pytest.raises(DataError, match=r"a\.csv is csv, .*b\.jsonl is jsonl.*source of its own"):
        check_one_format(find_all(source("a.csv", "b.jsonl")))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delimiter": ";"}, r"delimiter has no effect on jsonl files, only on csv"),
        ({"format": "conll"}, "do not name their columns"),
    ],
)
def test_options_are_checked_where_only_the_files_show_their_format(write, options, expected):
    path = write("a.jsonl", "{}")
    with pytest.raises(DataError, match=expected):
        describe_file(path, ReaderOptions.model_construct(None, **options))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.csv.gz", {}, ("csv", "gzip", "a.csv.gz:")),
        ("a.jsonl.zst", {}, ("jsonl", "zstd", "a.jsonl.zst:")),
        ("a.parquet", {}, ("parquet", None, "a.parquet row ")),
        ("a.txt.bz2", {"unit": "document"}, ("text", "bz2", "a.txt.bz2 row ")),
    ],
)
def test_a_name_says_how_a_file_is_read_and_what_messages_count(find, name, options, expected):
    file, _ = find(name, "x", **options)
    assert (file.format, file.compression, file.prefix) == expected


def test_a_file_survives_json(find):
    file, _ = find("a.csv.gz", "x")
    assert SourceFile.from_json(json.loads(json.dumps(file.as_json()))) == file
