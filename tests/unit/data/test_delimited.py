import gzip

import pytest

from tunesmith.data.blocks import BLOCK_ROWS
from tunesmith.errors import DataError


def test_fields_may_hold_delimiters_quotes_and_line_ends_and_rows_keep_their_line(read):
    rows = read("a.csv", 'text,label\n"a, ""b""\nsecond\r\nthird",1\nplain,2\n"x\ry",3\nlast,4')
    assert rows.table.to_pydict() == {
        "text": ['a, "b"\nsecond\r\nthird', "plain", "x\ry", "last"],
        "label": [1, 2, 3, 4],
    }
    assert [rows.origins(row) for row in range(4)] == ["a.csv:2", "a.csv:5", "a.csv:6", "a.csv:8"]


def test_lines_are_right_beyond_the_first_block(read):
    texts = [f'"{i}\n"' if i % 1000 == 7 else f"t{i}" for i in range(2 * BLOCK_ROWS)]
    rows = read("a.csv", "text\n" + "\n".join(texts))
    before_last = sum(2 if i % 1000 == 7 else 1 for i in range(2 * BLOCK_ROWS - 1))
    assert rows.origins(2 * BLOCK_ROWS - 1) == f"a.csv:{before_last + 2}"
    assert rows.table.num_rows == 2 * BLOCK_ROWS


def test_a_tsv_reads_quotes_as_plain_text(read):
    rows = read("a.tsv", '\ufefftext\tlabel\r\n"stray\tpos\r\nquo"te\tneg\r\n')
    assert rows.table.to_pydict() == {"text": ['"stray', 'quo"te'], "label": ["pos", "neg"]}


def test_quoting_delimiter_columns_encoding_and_nulls_can_be_chosen(read):
    content = "Ä;1\n'b\";\n".encode("cp1252")
    rows = read(
        "a.csv",
        content,
        delimiter=";",
        quoting="none",
        columns=["text", "stars"],
        encoding="cp1252",
        null_values=["", "NA"],
    )
    assert rows.table.to_pydict() == {"text": ["Ä", "'b\""], "stars": [1, None]}
    assert rows.origins(0) == "a.csv:1"


def test_nothing_is_null_unless_the_recipe_says_so(read):
    assert read("a.csv", "text,n\nNA,\nnull,None\n").table.to_pylist() == [
        {"text": "NA", "n": ""},
        {"text": "null", "n": "None"},
    ]


def test_gzipped_reads_the_same(read):
    content = b"text,label\na,b\n"
    assert read("a.csv.gz", gzip.compress(content)).table.equals(read("a.csv", content).table)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"a\.csv: the file is empty"),
        ("\n\n", r"a\.csv: the file is empty"),
        ("text,label\n", "no rows below its header"),
        ("text,label\na,b\n\nc\n", r"a\.csv:4: expected 2 fields \(text, label\), got 1 field: \[\"c\"\]"),
        ("text,label\na,b,c\n", r"a\.csv:2: expected 2 fields .* got 3 fields.*double quotes around"),
        ('text,label\n"multi\nline",x\na\n', r"a\.csv:4: expected 2"),
        (
            'text,label\na,b\n"never closed,c\nd,e\n',
            r"a\.csv:3: a double quote is opened .* not closed by line 4.*quoting",
        ),
        ('text,label\n"a"b,c\n', r"a\.csv:2: here text follows a closing double quote.*written twice"),
        ('text,label\n"a\nb"c,d\n', r"a\.csv:2: .* on line 3"),
        ("text,text\na,b\n", r"a\.csv:1: the header names 'text' twice"),
        (",text\n0,b\n", r"a\.csv:1: field 1 of the header has no name.*index=False"),
        ("text;label\na;b\n", r"a\.csv:1: one column.*Set the source's delimiter.*';'"),
        ("text,label\na,b\nc\0,d\n", r"a\.csv:3: a NUL byte"),
        ("te\0xt,label\na,b\n", r"a\.csv:1: a NUL byte"),
        ("text,label\na\0b\n", r"a\.csv:2: a NUL byte"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(read, content, expected):
    with pytest.raises(DataError, match=expected):
        read("a.csv", content)


def test_an_unclosed_quote_is_found_in_a_file_of_any_size(read):
    with pytest.raises(DataError, match=r"a\.csv:10002: a double quote is opened"):
        read("a.csv", "text\n" + "fine\n" * 10_000 + '"open\n' + f"{'x' * 1023}\n" * (1 << 14) + "fine\n")


def test_a_header_line_can_be_read_past(read):
    rows = read("a.tsv", "Quality\t#1 String\n1\ta\n", header=True, columns=["label", "text"])
    assert rows.table.to_pydict() == {"label": [1], "text": ["a"]}
    assert rows.origins(0) == "a.tsv:2"
    with pytest.raises(DataError, match=r"a\.csv:1: the header has 1 fields, \[\"x\"\], but .* are 2: label, text"):
        read("a.csv", "x\n1\n", header=True, columns=["label", "text"])


def test_columns_may_be_given_with_the_word_that_there_is_no_header(read):
    assert read("a.csv", "1,a\n", header=False, columns=["n", "text"]).table.to_pydict() == {"n": [1], "text": ["a"]}


def test_of_several_mistakes_the_first_in_the_file_is_named(read):
    with pytest.raises(DataError, match=r"a\.csv:2: expected 2"):
        read("a.csv", 'text,label\na\n"open,b\n')
    with pytest.raises(DataError, match=r"a\.csv:2: a NUL"):
        read("a.csv", "text,label\na,\0\nb\n")
    with pytest.raises(DataError, match=r"a\.csv:2: a NUL"):
        read("a.csv", "text,label\na,\0\n\0,b\n")


def test_more_columns_than_any_table_has_are_refused(read):
    with pytest.raises(DataError, match=r"a\.csv:1: 10,001 columns; there may be 10,000.*turn it"):
        read("a.csv", ",".join(f"c{i}" for i in range(10_001)) + "\n")
