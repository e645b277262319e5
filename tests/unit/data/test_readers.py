from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import readers, segments
from tunesmith.data.columns import to_values
from tunesmith.data.files import SourceFile, describe_file
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.readers import has_segments, map_segments, parse_segment, read_file
from tunesmith.data.segments import Segment, SegmentSizes, count_line_ends
from tunesmith.errors import DataError

WHOLE = SegmentSizes(minimum=1 << 20)
SMALL = SegmentSizes(minimum=4, mean=8, maximum=30, unit_bytes=2)


def outcome(text, options, sizes=WHOLE, cut=None):
    """The rows of a text with their line numbers and its blank lines; or the message that refuses it."""
    file = describe_file(Path(f"a.{options.format}"), options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "decode_contents", lambda file, encoding, start=0: iter([text]))
        if cut is not None:
            patch.setattr(readers, "cut_segments", lambda *arguments: iter(cut))
        patch.setattr(readers, "refuse_encoding", refuse_encoding)
        try:
            blocks = [*read_file(file, options, sizes)]
        except DataError as error:
            return str(error)
    rows = []
    for block in blocks:
        columns = {name: to_values(column) for name, column in block.columns.items()}
        rows += [(n, {name: columns[name][i] for name in columns}) for i, n in enumerate(block.numbers)]
    # A JSON row of a block may lack what another one has.
    rows = [(number, {name: value for name, value in row.items() if value is not None}) for number, row in rows]
    return rows, sum(block.num_blank for block in blocks)


def refuse_encoding(file, encoding):
    raise DataError("not utf-8")


PIECES = {
    "csv": [b"a", b"1", b",", b",", b'"', b'"', b'""', b"\n", b"\n", b"\r\n", b"\r", b" ", b"\0", b"\xff", b"\xc3\xa9"],
    "tsv": [b"a", b"1", b"\t", b'"', b"\n", b"\n", b"\r\n", b"\r"],
    "jsonl": [b'{"a": 1}', b'{"a": "x", "b": []}\n', b'{"b": 2}\n', b"\n", b"\r\n", b"\r", b" ", b"3", b"{"],
    "text": [b"a", b"bb b", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\0"],
    "conll": [b"a\tO\n", b"b\tB-x\r\n", b"c\tO", b"\n", b"\t\n", b" \r\n", b"d\n", b"\r"],
}
OPTIONS = [
    ReaderOptions(format="csv"),
    ReaderOptions(format="csv", columns=("x", "y")),
    ReaderOptions(format="csv", quoting="none"),
    ReaderOptions(format="tsv"),
    ReaderOptions(format="jsonl"),
    ReaderOptions(format="text"),
    ReaderOptions(format="text", unit="paragraph"),
    ReaderOptions(format="conll", columns=("tokens", "tags")),
]


@settings(deadline=None)
@given(st.data())
def test_reading_segment_by_segment_is_reading_the_whole(data):
    options = data.draw(st.sampled_from(OPTIONS))
    text = b"".join(data.draw(st.lists(st.sampled_from(PIECES[options.format]), max_size=40)))
    assert outcome(text, options, SMALL) == outcome(text, options)


well_formed = st.lists(
    st.lists(st.text(st.sampled_from('ab,"\n\r é'), max_size=6), min_size=2, max_size=2), min_size=1, max_size=12
)


@settings(deadline=None)
@given(well_formed, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_a_csv_file_may_be_cut_behind_any_line(rows, line_end, data):
    lines = [",".join('"' + field.replace('"', '""') + '"' for field in row) for row in [["x", "y"], *rows]]
    text = line_end.join(lines).encode()
    places = [index + 1 for index, byte in enumerate(text) if byte == 10]
    chosen = sorted(data.draw(st.sets(st.sampled_from(places)))) if places else []
    bounds = sorted({0, *chosen, len(text)})
    cut, line = [], 1
    for start, end in pairwise(bounds):
        cut.append(Segment(text[start:end], line, end == len(text)))
        line += count_line_ends(text[start:end])
    options = ReaderOptions(format="csv")
    found, _ = outcome(text, options, cut=cut)
    assert [[row["x"], row["y"]] for _, row in found] == rows
    assert outcome(text, options) == (found, 0)


def test_segments_that_stay_give_the_rows_that_they_gave(write):
    lines = [f'"{i}, one\n{i}",{i}' for i in range(3000)]
    first = write("a.csv", "\n".join(["text,n", *lines]))
    second = write("b.csv", "\n".join(["text,n", *lines[:50], "put,in", *lines[50:]]))
    sizes = SegmentSizes(minimum=100, mean=2000, maximum=10_000, unit_bytes=0)
    seen = []
    for path in (first, second):
        file, options = describe_file(path, ReaderOptions()), ReaderOptions()

        def parse(segment, header, file=file, options=options):
            blocks = parse_segment(segment, file, options, header)
            return [block.columns["n"].to_pylist() for block in blocks]

        seen.append({segment.data: rows for segment, rows in map_segments(file, options, parse, sizes)})
    both = seen[0].keys() & seen[1].keys()
    assert len(seen[1].keys() - both) <= 3
    assert all(seen[0][data] == seen[1][data] for data in both)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.csv", {}, True),
        ("a.jsonl", {}, True),
        ("a.txt", {"unit": "paragraph"}, True),
        ("a.txt", {"unit": "document"}, False),
        ("a.json", {}, False),
        ("a.parquet", {}, False),
    ],
)
def test_formats_of_lines_have_segments(name, options, expected):
    found = ReaderOptions(**options)
    assert has_segments(describe_file(Path(name), found), found) is expected


def test_a_file_without_rows_is_named(read):
    with pytest.raises(DataError, match=r"b\.csv: the file has no rows below its header.*data\.sources"):
        read("b.csv", "text\n\n")
    with pytest.raises(DataError, match=r"b\.jsonl: the file has no rows\. Write some"):
        read("b.jsonl", "\n")


def test_a_wrong_byte_is_named_after_the_mistakes_before_it(read):
    with pytest.raises(DataError, match=r"a\.csv:3: expected 2 fields"):
        read("a.csv", b"x,y\n1,2\n3\n4,\xff\n")
    with pytest.raises(DataError, match=r"a\.csv:4: byte 13 of the file \(0xff\) is not utf-8"):
        read("a.csv", b"x,y\n1,2\n3,4\n4\xff,\n")


def test_files_know_how_messages_name_their_rows():
    file = SourceFile(Path("x.jsonl"), "jsonl", "shop (sql)", "shop (sql)", "shop (sql)", counts_rows=True)
    assert file.prefix + "17" == "shop (sql) row 17"
