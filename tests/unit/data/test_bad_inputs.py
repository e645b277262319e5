"""Everything that can be wrong with a file, and what the message must tell: place, value or reason, and next step."""

import bz2
import gzip
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data import contents
from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.readers import read_file
from tunesmith.data.sources import DataConfig, reader_options
from tunesmith.errors import UserError
from tunesmith.store.folder import FolderStore


def as_parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def as_arrow(**columns):
    buffer, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


LINES = "".join(f"{i},text {i * i}\n" for i in range(5000)).encode()
WIDE = ",".join(f"c{i}" for i in range(10_001))
CONLL = {"columns": ["tokens", "tags"]}
PARQUET, ARROW = as_parquet(x=["a" * 100, "b"]), as_arrow(x=["a" * 100, "b"])

BAD = {
    # name: (file, content, options, where, what, next step)
    "an empty csv file": ("a.csv", "", {}, "a.csv", "is empty", "Write its rows"),
    "a csv file of blank lines": ("a.csv", "\n\r\n\n", {}, "a.csv", "is empty", "Write its rows"),
    "a csv file of a header": ("a.csv", "x,y\n", {}, "a.csv", "no rows below its header", "Write some"),
    "an empty tsv file": ("a.tsv.gz", gzip.compress(b""), {}, "a.tsv.gz", "is empty", "Write its rows"),
    "an empty jsonl file": ("a.jsonl", "", {}, "a.jsonl", "no rows", "Write some"),
    "an empty json file": ("a.json", " \n", {}, "a.json", "is empty", "Write its rows"),
    "an empty list": ("a.json", "[]", {}, "a.json", "no rows", "Write some"),
    "an empty text file": ("a.txt", "\n", {}, "a.txt", "no rows", "Write some"),
    "an empty conll file": ("a.conll", "\n\t\n", CONLL, "a.conll", "no rows", "Write some"),
    "a parquet file of no bytes": ("a.parquet", "", {}, "a.parquet", "not a readable parquet", "write it again"),
    "a parquet file of no rows": ("a.parquet", as_parquet(x=pa.nulls(0)), {}, "a.parquet", "no rows", "Write some"),
    "a header that repeats": ("a.csv", "x,x\n1,2\n", {}, "a.csv:1", "'x' twice", "a name of its own"),
    "a header with a gap": ("a.csv", "x,,y\n1,2,3\n", {}, "a.csv:1", "field 2", "Name every column"),
    "another delimiter": ("a.csv", "x;y\n1;2\n", {}, "a.csv:1", "';'", "Set the source's delimiter"),
    "a row too short": ("a.csv", "x,y\n1,2\n3\n", {}, "a.csv:3", '["3"]', "Correct the line"),
    "a row too long": ("a.tsv", "x\ty\n1\t2\t3\n", {}, "a.tsv:2", '["1", "2", "3"]', "Correct the line"),
    "too few names": ("a.csv", "1,2\n", {"columns": ["x"]}, "a.csv:1", "expected 1 fields (x)", "Correct the line"),
    "an unclosed quote": ("a.csv", 'x,y\n1,"2\n3,4\n', {}, "a.csv:2", "not closed by line 3", "Correct the quotes"),
    "an unclosed quote in the header": ("a.csv", 'x,"y\n1,2\n', {}, "a.csv:1", "not closed", "Correct the quotes"),
    "a quote inside quotes": ("a.csv", 'x\n"a"b"\n', {}, "a.csv:2", "text follows", "written twice"),
    "a NUL in csv": ("a.csv", "x,y\n1,a\0b\n", {}, "a.csv:2", "NUL", "set the source's encoding"),
    "utf-16 without a mark": ("a.txt", "abc\n".encode("utf-16-le"), {}, "a.txt:1", "NUL", "utf-16-le"),
    "utf-16 with a mark": ("a.csv", "x\n1\n".encode("utf-16"), {}, "a.csv:1", "0xff", "set encoding to utf-16"),
    "latin-1": ("a.csv", "x\nna\xefve\n".encode("latin-1"), {}, "a.csv:2", "byte 4 of the file (0xef)", "latin-1"),
    "a surrogate in utf-8": ("a.txt", b"one\n\xed\xa0\x80\n", {}, "a.txt:2", "(0xed)", "Set encoding"),
    "half a character": ("a.jsonl", b'{"x": 1}\n"\xc3', {}, "a.jsonl", "in the middle of a character", "Set encoding"),
    "an encoding that is not": ("a.txt", b"a\nb\x81\n", {"encoding": "cp1252"}, "a.txt:2", "(0x81)", "Set encoding"),
    "gzip by another name": ("a.csv", gzip.compress(b"x\n"), {}, "a.csv:1", "gzip data", "add .gz to its name"),
    "zip": ("a.jsonl", b"PK\x03\x04\xff\xff\n", {}, "a.jsonl:1", "a zip archive", "unpack it"),
    "parquet as csv": ("a.csv", PARQUET, {}, "a.csv", "", "Correct the line|set format to parquet|encoding"),
    "a truncated gz": ("a.csv.gz", gzip.compress(LINES)[:500], {}, "a.csv.gz", "ends early, after 500", "Fetch"),
    "a truncated bz2": ("a.csv.bz2", bz2.compress(LINES)[:500], {}, "a.csv.bz2", "ends early, after 500", "Fetch"),
    "a truncated zst": ("a.csv.zst", zstd(LINES)[:500], {}, "a.csv.zst", "ends early, after 500", "Fetch"),
    "a gz that is none": ("a.csv.gz", b"x,y\n1,2\n", {}, "a.csv.gz", "not valid gzip", "take the extension off"),
    "a bz2 that is none": ("a.csv.bz2", b"x,y\n1,2\n", {}, "a.csv.bz2", "not valid bz2", "take the extension off"),
    "a zst that is none": ("a.csv.zst", b"x,y\n1,2\n", {}, "a.csv.zst", "not valid zstd", "take the extension off"),
    "a gzip bomb": ("a.txt.gz", gzip.compress(bytes(1 << 22)), {}, "a.txt.gz", "decompression bomb", "decompress"),
    "a bz2 bomb": ("a.csv.bz2", bz2.compress(bytes(1 << 22)), {}, "a.csv.bz2", "decompression bomb", "decompress"),
    "a zstd bomb": ("a.jsonl.zst", zstd(bytes(1 << 22)), {}, "a.jsonl.zst", "decompression bomb", "decompress"),
    "a parquet bomb": ("a.parquet.gz", gzip.compress(bytes(1 << 22)), {}, "a.parquet.gz", "bomb", "decompress"),
    "a line of 30 MB": ("a.txt", b"one\n" + b"x" * 30_000_000, {}, "a.txt:2", "more than 16 MiB", "Cut the line"),
    "a json line of 30 MB": (
        "a.jsonl",
        b'{"x": "' + b"x" * 30_000_000 + b'"}\n',
        {},
        "a.jsonl:1",
        "more than 16 MiB",
        "Cut the line",
    ),
    "a document of 30 MB": (
        "a.txt",
        b"x" * 30_000_000,
        {"unit": "document"},
        "a.txt",
        "more than 16,777,216 bytes",
        "paragraph or line",
    ),
    "lines that end as in 1999": ("a.csv", b"x\r" + b"1\r" * 9_000_000, {}, "a.csv:1", "lone CR", "write them with LF"),
    "too many columns": ("a.csv", f"{WIDE}\n{WIDE}\n", {}, "a.csv:1", "10,001 columns", "turn it"),
    "too many keys": (
        "a.jsonl",
        json.dumps(dict.fromkeys(WIDE.split(","))),
        {},
        "a.jsonl:1",
        "10,001 columns",
        "write them as values",
    ),
    "a broken line": ("a.jsonl", '{"x": 1}\n{"x": }\n{"x": 3}\n', {}, "a.jsonl:2:7", "Expecting value", "Correct"),
    "a line cut off": ("a.jsonl", '{"x": 1}\n{"x": "ab', {}, "a.jsonl:2", "Unterminated string", "Correct the line"),
    "a list on a line": ("a.jsonl", '{"x": 1}\n[1]\n', {}, "a.jsonl:2", "[1]", "Correct the row"),
    "a key twice": ("a.jsonl", '{"x": 1, "x": 2}\n', {}, "a.jsonl:1", "'x' twice", "Correct the value"),
    "NaN in JSON": ("a.jsonl", '{"x": 1}\n{"x": NaN}\n', {}, "a.jsonl:2", "NaN is not JSON", "write null"),
    "infinity by size": ("a.jsonl", '{"x": 1e999}\n', {}, "a.jsonl:1", "1e999 is too large", "Correct the value"),
    "a million digits": ("a.jsonl", f'{{"x": {"9" * 10**6}}}\n', {}, "a.jsonl:1", "digits", "Correct the value"),
    "a NUL in JSON": ("a.jsonl", '{"x": "a\0"}\n', {}, "a.jsonl:1:9", "NUL", "write it again"),
    "a nesting bomb": ("a.jsonl", "[" * 10**6, {}, "a.jsonl:1", "more than 100 levels", "Flatten it"),
    "a nest that fits the stack": (
        "a.json",
        '[{"x": ' + "[" * 200 + "]" * 200 + "}]",
        {},
        "a.json:1",
        "more than 100 levels",
        "Flatten it",
    ),
    "two JSON values": ("a.json", '{"x": 1}\n{"x": 2}\n', {}, "a.json:2:1", "a second JSON value", "format to jsonl"),
    "an object for a list": ("a.json", '{"rows": []}', {}, "a.json", "the keys rows", "Set the source's field"),
    "a field that is not": ("a.json", '{"rows": []}', {"field": "row"}, "a.json", "no key 'row'", "Did you mean rows?"),
    "a row that is none": ("a.json", '[{"x": 1}, 2]', {}, "a.json row 2", "not 2", "Correct the row"),
    "members that are no rows": (
        "a.json",
        '{"a": {"x": 1}, "b": 2}',
        {"keyed": {"key": "k"}},
        "a.json row 2",
        "'b' holds 2",
        "keyed.value",
    ),
    "a corrupt parquet": ("a.parquet", PARQUET[:-1], {}, "a.parquet", "not a readable parquet", "write it again"),
    "a parquet with bad pages": (
        "a.parquet",
        PARQUET[:8] + bytes(80) + PARQUET[88:],
        {},
        "a.parquet",
        "not a readable parquet",
        "write it again",
    ),
    "a truncated arrow": ("a.arrow", ARROW[:-40], {}, "a.arrow", "not a readable arrow", "write it again"),
    "csv as parquet": ("a.parquet", "x,y\n1,2\n", {}, "a.parquet", "not a readable parquet", "set the source's format"),
    "a token with a space": ("a.conll", "a b\tO\n", CONLL, "a.conll:1", '"a b"', "Write the token without it"),
    "a token without a tag": ("a.conll", "a\tO\nb\n", CONLL, "a.conll:2", '["b"]', "Correct the line"),
    "an empty glob": ("a.csv", "x\n1\n", {"files": ["b*.csv"]}, "b*.csv", "matches no file", "The folder holds a.csv"),
    "no such file": ("a.csv", "x\n1\n", {"files": ["b.csv"]}, "b.csv", "no such file", "Did you mean a.csv?"),
    "a folder": ("a.csv/b.csv", "x\n1\n", {"files": ["a.csv"]}, "a.csv", "is a folder", "Name its files"),
    "an unknown format": ("a.xlsx", "x", {}, "a.xlsx", "does not say its format", "Set the source's format"),
    "a file twice": ("a.csv", "x\n1\n", {"files": ["a.csv", "*.csv"]}, "a.csv", "named twice", "Name it once"),
}


def use(folder, section):
    """What a run does with its sources: fetch and read."""
    data = DataConfig.model_validate_json(json.dumps({"sources": [section]}), context={"folder": folder})
    ref = fetch(data, FolderStore(folder / "store"), {})
    for file in map(SourceFile.from_json, ref.facts["files"]):
        for _ in read_file(file, reader_options(data.sources[file.source])):
            pass


def test_there_are_enough_of_them():
    assert len(BAD) >= 40


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_refused_with_its_place_its_value_and_what_to_do(tmp_path, write, monkeypatch, name):
    monkeypatch.setattr(contents, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    file, content, options, where, what, step = BAD[name]
    write(file, content)
    with pytest.raises(UserError) as caught:
        use(tmp_path, {"files": [file], **options})
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert re.search(rf"(^|[/ ]){re.escape(where)}[: ]", message), message
    assert what in message
    assert re.search(step.replace("?", r"\?"), message), message
    assert len(message) < 600
    assert "\0" not in message
    assert message.endswith((".", "?"))


def test_a_file_that_changes_between_fetching_and_reading_is_refused(tmp_path, write):
    path = write("a.csv", "x\n1\n")
    data = DataConfig.model_validate_json(json.dumps({"sources": [{"files": [str(path)]}]}))
    ref = fetch(data, FolderStore(tmp_path / "store"), {})
    path.write_text("x\n2\n")
    with pytest.raises(UserError, match=r"a\.csv: the file has changed since the run looked at it\. Run again"):
        [*read_file(SourceFile.from_json(ref.facts["files"][0]), reader_options(data.sources[0]))]


def test_formats_that_mix_in_one_source_are_refused(tmp_path, write):
    write("a.csv", "x\n1\n")
    write("b.jsonl", "{}\n")
    with pytest.raises(UserError, match=r"a\.csv is csv, .*b\.jsonl is jsonl\. Give each format a source"):
        use(tmp_path, {"files": ["a.csv", "b.jsonl"]})
