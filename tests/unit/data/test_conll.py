import pytest

from tunesmith.errors import DataError

COLUMNS = ["tokens", "tags"]


def test_a_sentence_is_a_row_with_its_tokens_and_tags(read):
    rows = read("a.conll", "New\tB-loc\nYork\tI-loc\n\n\t\nyes\tO\r\n \nno\tO", columns=COLUMNS)
    assert rows.table.to_pydict() == {"tokens": ["New York", "yes", "no"], "tags": ["B-loc I-loc", "O", "O"]}
    assert [rows.origins(row) for row in range(3)] == ["a.conll:1", "a.conll:5", "a.conll:7"]


def test_columns_and_delimiter_are_those_of_the_recipe(read):
    rows = read("a.data", "EU NNP B-ORG\n", format="conll", delimiter=" ", columns=["tokens", "pos", "tags"])
    assert rows.table.to_pylist() == [{"tokens": "EU", "pos": "NNP", "tags": "B-ORG"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"a\.conll: the file has no rows"),
        ("\n\t\n", r"a\.conll: the file has no rows"),
        ("a\tO\nb\n", r"a\.conll:2: expected 2 fields \(tokens, tags\) with '\\t' between, got 1: \[\"b\"\]"),
        ("a\tO\n\nb c\tO\n", r"a\.conll:3: the field 'tokens' holds a space.*\"b c\""),
        ("a\t\n", r"a\.conll:1: the field 'tags' is empty"),
        ("a\0\tO\n", r"a\.conll:1: a NUL"),
        ("a\0\n", r"a\.conll:1: a NUL"),
    ],
)
def test_a_line_that_is_no_token_is_refused(read, content, expected):
    with pytest.raises(DataError, match=expected):
        read("a.conll", content, columns=COLUMNS)
