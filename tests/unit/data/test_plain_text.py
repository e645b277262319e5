import pytest

from tunesmith.errors import DataError


def test_a_row_is_a_line_that_is_not_blank(read):
    rows = read("a.txt", '\ufeffone\r\n\n  \ntwo, "three"\n four ')
    assert rows.table.to_pydict() == {"text": ["one", 'two, "three"', " four "]}
    assert [rows.origins(row) for row in range(3)] == ["a.txt:1", "a.txt:4", "a.txt:5"]


def test_a_row_may_be_a_paragraph(read):
    rows = read("a.txt", "\n\none\nmore\n\n \n\ntwo", unit="paragraph")
    assert rows.table.to_pydict() == {"text": ["one\nmore", "two"]}
    assert [rows.origins(row) for row in range(2)] == ["a.txt:3", "a.txt:8"]


def test_a_line_of_digits_is_text_when_others_are(read):
    assert read("a.txt", "1\ntwo\n").table["text"].to_pylist() == ["1", "two"]


@pytest.mark.parametrize(
    ("content", "expected"), [("", "no rows"), ("\n\n", "no rows"), ("a\nb\0\n", r"a\.txt:2: a NUL")]
)
def test_a_file_without_text_is_refused(read, content, expected):
    with pytest.raises(DataError, match=expected):
        read("a.txt", content)


def test_a_row_may_be_the_whole_file(read):
    rows = read("a.txt", "\ufeffone\r\n\ntwo\n", unit="document")
    assert rows.table.to_pydict() == {"text": ["one\r\n\ntwo\n"]}
    assert rows.origins(0) == "a.txt row 1"
    with pytest.raises(DataError, match="no rows"):
        read("a.txt", " \n", unit="document")
