import html
import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunesmith.data.texts import (
    WHITESPACE,
    check_pattern,
    collapse_whitespace,
    has_match,
    lower,
    measure_length,
    normalize_unicode,
    replace_pattern,
    strip,
    unescape_html,
)

HARD = ["", " a\x1cb\u3000", "ΑΣ İ ǅ", "&amp;&#0;&notit;&", "ﬁ Å Å 각", "\x85\ufeff", "a" * 40 + "É", None]

texts = st.lists(st.none() | st.text() | st.text(alphabet="aΣİ é&;#x1\u0301\u00a0\x1f\u1680Åﬁ"), max_size=6)


def column(values):
    half = len(values) // 2
    return pa.chunked_array([values[:half], values[half:]], pa.string())


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (strip, str.strip),
        (collapse_whitespace, lambda text: " ".join(text.split())),
        (lower, str.lower),
        (unescape_html, html.unescape),
        (lambda values: normalize_unicode(values, "NFC"), lambda text: unicodedata.normalize("NFC", text)),
        (lambda values: normalize_unicode(values, "NFKC"), lambda text: unicodedata.normalize("NFKC", text)),
        (lambda values: measure_length(values, "words"), lambda text: len(text.split())),
        (lambda values: measure_length(values, "characters"), len),
    ],
    ids=["strip", "collapse_whitespace", "lower", "unescape_html", "NFC", "NFKC", "words", "characters"],
)
@settings(deadline=None, max_examples=50)
@given(values=texts)
@example(values=HARD)
@example(values=[])
def test_an_operation_does_what_python_does(operation, reference, values):
    expected = [None if text is None else reference(text) for text in values]
    assert operation(column(values)).to_pylist() == expected


def test_white_space_is_what_python_takes_for_it():
    assert set(WHITESPACE) == {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}


def test_a_pattern_is_found_anywhere_and_its_groups_can_be_used():
    values = column(["see https://a.b now", "none", None])
    assert has_match(values, "https?://").to_pylist() == [True, False, None]
    assert replace_pattern(values, r"https?://(\S+)", r"<\1>").to_pylist() == ["see <a.b> now", "none", None]


def test_a_pattern_that_explodes_elsewhere_does_not_here():
    assert has_match(column(["a" * 100_000 + "!"]), r"^(a+)+$").to_pylist() == [False]


@pytest.mark.parametrize(
    ("pattern", "by", "expected"),
    [
        ("(", None, r"missing \): \( \(the syntax is RE2's"),
        ("(?=a)", None, "invalid perl operator"),
        (r"(a)\1", None, "invalid escape sequence"),
        ("(a{900}){900}", None, "invalid repetition size|too large"),
        ("a", r"\1", "Rewrite schema requests 1 matches"),
        ("a", "\\", "not allowed at end"),
    ],
)
def test_what_is_no_pattern_or_no_replacement_is_refused(pattern, by, expected):
    with pytest.raises(ValueError, match=expected):
        check_pattern(pattern, by)
