import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.shingles import find_trigrams, find_words, normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  How DO I, top-up?! ", "how do i top up"),
        ("Don\u2019t won't", "dont wont"),
        ("\uff21\uff22", "ab"),
        ("\u5361\u7247\u4e22\u4e86 ok", "\u5361 \u7247 \u4e22 \u4e86 ok"),
        ("!?\t ...", "!? ..."),
        (None, ""),
        (" \n\u2003", ""),
    ],
)
def test_what_makes_no_difference_goes(text, expected):
    assert normalize(pa.array([text], pa.string())).to_pylist() == [expected]


def test_two_ways_to_write_a_character_are_one():
    one, other = normalize(pa.array(["caf\u00e9", "cafe\u0301"])).to_pylist()
    assert one == other


def test_numbers_are_compared_as_text():
    assert normalize(pa.array([15, None])).to_pylist() == ["15", ""]


def test_trigrams_reach_over_the_spaces_of_a_text_and_not_into_the_next_one():
    values, owners = find_trigrams(pa.array(["ab c", "", "d"]))
    shown = ["".join(chr(int(value) >> shift & 0x1FFFFF) for shift in (42, 21, 0)) for value in values]
    assert list(zip(owners, shown, strict=True)) == [(0, " ab"), (0, "ab "), (0, "b c"), (0, " c "), (2, " d ")]


def test_no_texts_have_no_shingles():
    assert [len(part) for part in (*find_words(pa.array([], pa.string())), *find_trigrams(pa.array([""])))] == [0] * 4


@given(st.lists(st.text(st.sampled_from("ab\u00e9 "), max_size=12), min_size=1, max_size=5))
def test_words_are_equal_where_their_texts_are(texts):
    normal = normalize(pa.array(texts))
    expected = [(owner, word) for owner, text in enumerate(normal.to_pylist()) for word in text.split()]
    words, owners = find_words(normal)
    assert owners.tolist() == [owner for owner, _ in expected]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(word for _, word in expected))}
    _, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    assert np.argsort(np.argsort(first))[inverse].tolist() == [numbers[word] for _, word in expected]
