import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamed import find_file
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.readers import read_file
from tunesmith.data.spans import MAX_SPANS, SPAN_BYTES, FileSpans, SpanReader, find_span_bytes, find_spans, list_spans
from tunesmith.errors import DataError

ROWS = [{"id": number, "text": f'line "{number}",\n and more' * (number % 5)} for number in range(400)]


def write_csv(rows, end="\r\n"):
    quoted = ['"' + row["text"].replace('"', '""') + '"' for row in rows]
    return f"id,text{end}" + "".join(f"{row['id']},{text}{end}" for row, text in zip(rows, quoted, strict=True))


def write_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_span(reader, index):
    blocks = reader.read(index)
    return [
        (number, str(row), text)
        for block in blocks
        for number, row, text in zip(
            block.numbers, block.columns["id"].to_pylist(), block.columns["text"].to_pylist(), strict=True
        )
    ]


def read_spans(path, order=None, span_bytes=1000, **options):
    options = ReaderOptions(**options)
    spans = find_spans(find_file(path, options), options, span_bytes)
    reader = SpanReader(spans, options)
    found = {index: read_span(reader, index) for index in order or range(spans.num_spans)}
    return spans, found


FILES = {
    "rows.jsonl": write_jsonl(ROWS).encode(),
    "bom.jsonl": b"\xef\xbb\xbf" + write_jsonl(ROWS).encode(),
    "rows.jsonl.gz": gzip.compress(write_jsonl(ROWS).encode()),
    "rows.csv": write_csv(ROWS).encode(),
    "bom.csv": b"\xef\xbb\xbf" + write_csv(ROWS).encode(),
    "rows.csv.bz2": bz2.compress(write_csv(ROWS).encode()),
}


@pytest.mark.parametrize("name", FILES)
def test_spans_are_the_rows_in_any_order_each_with_its_line(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    spans, forward = read_spans(tmp_path / name)
    assert spans.num_spans > 10
    rows = [row for index in range(spans.num_spans) for row in forward[index]]
    assert [(number, text) for _, number, text in rows] == [(str(row["id"]), row["text"]) for row in ROWS]
    lines = {"jsonl": [number + 1 for number in range(400)], "csv": None}[name.split(".")[1]]
    if lines:
        assert [line for line, _, _ in rows] == lines
    order = [7, 3, 3, 9, *range(spans.num_spans)]
    assert read_spans(tmp_path / name, order)[1] == forward


def test_a_csv_row_is_numbered_by_its_line_in_any_span(tmp_path):
    (tmp_path / "rows.csv").write_bytes(FILES["rows.csv"])
    lines, expected = [], 2
    for row in ROWS:
        lines.append(expected)
        expected += 1 + row["text"].count("\n")
    _, found = read_spans(tmp_path / "rows.csv")
    assert [line for rows in found.values() for line, _, _ in rows] == lines


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_in_another_encoding_is_read_from_front_to_end(encoding, tmp_path):
    (tmp_path / "rows.csv").write_text(write_csv(ROWS), encoding=encoding, newline="")
    _, found = read_spans(tmp_path / "rows.csv", encoding=encoding)
    assert [text for rows in found.values() for _, _, text in rows] == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "options"),
    [("rows.txt", {"unit": "paragraph"}), ("rows.txt", {}), ("rows.conll", {"columns": ("text", "tag")})],
)
def test_paragraphs_lines_and_sentences_are_never_cut(name, options, tmp_path):
    (tmp_path / name).write_text("".join(f"one {i}\tx\ntwo\ty\n\n".replace(" ", "") for i in range(200)))
    options = ReaderOptions(**options)
    file = find_file(tmp_path / name, options)
    whole = [text for block in read_file(file, options) for text in block.columns["text"].to_pylist()]
    spans = find_spans(file, options, 300)
    reader = SpanReader(spans, options)
    blocks = [block for index in reversed(range(spans.num_spans)) for block in reversed(reader.read(index))]
    assert spans.num_spans > 5
    assert [text for block in reversed(blocks) for text in block.columns["text"].to_pylist()] == whole


def test_a_parquet_file_is_read_in_blocks(tmp_path):
    numbers = range(12_000)
    pq.write_table(pa.table({"id": numbers, "text": [str(number) for number in numbers]}), tmp_path / "rows.parquet")
    spans, found = read_spans(tmp_path / "rows.parquet", [1, 2, 0])
    assert spans.numbers == (1, 5001, 10_001, 12_001)
    assert [row[0] for index in range(3) for row in found[index]] == [number + 1 for number in numbers]


def test_spans_that_can_be_read_at_any_time_are_strands_by_themselves(tmp_path):
    files = []
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        (tmp_path / name).write_bytes(FILES[name])
        files.append(find_spans(find_file(tmp_path / name, ReaderOptions()), ReaderOptions(), 10_000))
    spans = list_spans(files, [ReaderOptions()] * 2)
    first = files[0].num_spans
    assert spans.strands.tolist() == [*range(first), *[first] * files[1].num_spans]
    assert spans.num_lines.sum() == 800


def test_spans_go_through_json(tmp_path):
    (tmp_path / "rows.csv").write_bytes(FILES["rows.csv"])
    spans, _ = read_spans(tmp_path / "rows.csv")
    assert FileSpans.from_json(json.loads(json.dumps(spans.as_json())), spans.file) == spans


def test_huge_files_have_larger_spans_and_not_more(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(FILES["rows.jsonl"])
    file = find_file(tmp_path / "rows.jsonl", ReaderOptions())
    assert find_span_bytes([file]) == SPAN_BYTES
    large = type(file)(**{**vars(file), "size_bytes": 2**40})
    assert find_span_bytes([large]) == 2**40 // MAX_SPANS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", "a.json: a json file is one value, which cannot be read in parts. Write it as jsonl"),
        ("a.jsonl", "", "a.jsonl: the file has no rows"),
        ("a.csv", "id,text\n", "a.csv: the file has no rows below its header"),
        ("a.jsonl", "x" * (2**24 + 2**18 + 2), "a.jsonl:1: a line of more than 16 MiB"),
        ("a.csv", 'id,text\n1,"open\n', "a.csv:2: a double quote is opened in the row that starts here"),
    ],
)
def test_what_cannot_be_cut_into_spans_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        read_spans(tmp_path / name, span_bytes=2**18)


CELLS = st.text(st.sampled_from('ab"\n\r,é '), max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS, min_size=1, max_size=40), st.integers(4, 80), st.sampled_from(["\n", "\r\n"]))
def test_any_csv_text_is_the_same_in_spans_and_whole(tmp_path_factory, texts, span_bytes, line_end):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    rows = [{"id": number, "text": text} for number, text in enumerate(texts)]
    path.write_bytes(write_csv(rows, line_end).encode())
    spans, found = read_spans(path, span_bytes=span_bytes)
    backward = read_spans(path, list(reversed(range(spans.num_spans))), span_bytes)[1]
    assert [text for index in range(spans.num_spans) for _, _, text in backward[index]] == [row["text"] for row in rows]
    assert found == {index: backward[index] for index in found}
