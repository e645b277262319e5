import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.likes import find_likes
from tunesmith.data.shingles import normalize

TEXTS = [
    "Why was I charged a fee for my card?",
    "how do i activate my new card",
    "the weather is fine today",
    "why was i charged a fee for my card",
    "How do I activate my new cards?",
    "an answer to everything",
]
CODES = [0, 0, 0, 1, 2, 2]


def likes_of(texts, codes, **options):
    normal = normalize(pa.array(texts, pa.string()))
    found = find_likes([normal], np.array(codes, dtype=np.int8), threshold=0.65, **options)
    return sorted(zip(found.rows.tolist(), found.partners.tolist(), found.similarity.round(2).tolist(), strict=True))


def test_every_row_is_shown_its_like_in_each_other_split():
    assert likes_of(TEXTS, CODES) == [(0, 3, 1.0), (1, 4, 0.9), (3, 0, 1.0), (4, 1, 0.9)]


def test_equal_rows_of_one_split_are_no_leak_and_those_of_two_are_told_once_each():
    assert likes_of(["one same text"] * 4, [0, 0, 0, 0]) == []
    assert likes_of(["one same text"] * 4, [0, 0, 1, 2]) == [
        (0, 2, 1.0), (0, 3, 1.0), (1, 2, 1.0), (1, 3, 1.0), (2, 0, 1.0), (2, 3, 1.0), (3, 0, 1.0), (3, 2, 1.0),
    ]  # fmt: skip


def test_the_most_similar_row_of_the_other_split_is_named():
    texts = ["the exchange rate of my payment was wrong", "the exchange rate on my payment was wrong today", None]
    texts[2] = "the exchange rate of my payments was wrong"
    assert likes_of(texts, [0, 0, 2])[-1] == (2, 0, pytest.approx(0.89, abs=0.01))


def test_empty_rows_are_like_no_other():
    assert likes_of(["", None, "  "], [0, 1, 2]) == []
    assert likes_of([], []) == []


def test_thousands_of_equal_rows_are_a_row_each():
    assert len(likes_of(["one same text"] * 3000, [0, 1, 2] * 1000)) == 6000


def test_of_pairs_of_texts_both_must_be_alike():
    first = normalize(pa.array(["how do i pay", "how do i pay", "how do i pay", ""]))
    second = normalize(pa.array(["with a card", "With a card!", "in cash please", ""]))
    found = find_likes([first, second], np.array([0, 1, 1, 1], dtype=np.int8), threshold=0.65)
    assert sorted(zip(found.rows.tolist(), found.partners.tolist(), strict=True)) == [(0, 1), (1, 0)]
