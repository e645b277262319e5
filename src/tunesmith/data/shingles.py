"""Texts as the sets that are compared: words, and character trigrams; computed for many texts at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UnsignedArray = np.ndarray[Any, np.dtype[Any]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

SPACE = ord(" ")
MAX_CHARACTERS = 4000
"""Of a longer text the start is compared: six hundred words tell, and the memory stays bounded."""
APOSTROPHES = "['\u2019`\u00b4]"
NO_WORD = r"[^\p{L}\p{N}\p{M}]+"
UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
"""Scripts that put no space between words: there each character counts as one."""


class Shingles(NamedTuple):
    """The shingles of several texts, those of one text next to each other.

    Attributes:
        values: What is compared, shape (num_shingles,); equal shingles have equal values.
        owners: Index of the text of each shingle, ascending, shape (num_shingles,).
    """

    values: UnsignedArray
    owners: IntArray


def normalize(texts: pa.Array) -> pa.Array:
    """Texts without what makes no difference: case, punctuation, apostrophes, width and space; null is empty.

    A text that has no letter and no digit keeps its characters; of a long one the first 4,000 characters count.

    Returns:
        An array of type large_string, of the same length.
    """
    start = pc.utf8_slice_codeunits(texts.cast(pa.large_string()).fill_null(""), 0, MAX_CHARACTERS)
    plain = pc.utf8_lower(pc.utf8_normalize(start, "NFKC"))
    words = pc.replace_substring_regex(pc.replace_substring_regex(plain, APOSTROPHES, ""), NO_WORD, " ")
    has_words = pc.not_equal(pc.utf8_trim_whitespace(words), "")
    words = pc.replace_substring_regex(pc.if_else(has_words, words, plain), UNSPACED, r" \1 ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(words, r"\s+", " "))


def find_words(texts: pa.Array) -> Shingles:
    """A 32-bit hash of every word of normalized texts."""
    characters, ends = _lay_out(texts)
    is_space = characters == SPACE
    starts = np.flatnonzero(is_space[:-1] & ~is_space[1:]) + 1
    if len(starts) == 0:
        return Shingles(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64))
    places = np.arange(len(characters)) - np.repeat(np.r_[0, starts], np.diff(np.r_[0, starts, len(characters)]))
    hashes = _mix(characters.astype(np.uint64) | (places.astype(np.uint64) << np.uint64(32)))
    hashes[is_space] = 0
    words = _mix(np.add.reduceat(hashes, starts)) >> np.uint64(32)
    return Shingles(words.astype(np.uint32), np.searchsorted(ends, starts))


def find_trigrams(texts: pa.Array) -> Shingles:
    """Every three neighbouring characters of normalized texts, a space before and behind each text included."""
    characters, ends = _lay_out(texts)
    is_middle = np.ones(len(characters), dtype=bool)
    is_middle[0] = is_middle[ends] = False
    middles = np.flatnonzero(is_middle)
    wide = characters.astype(np.uint64)
    # A character takes 21 bits, so three fit exactly: no two trigrams share a value.
    values = (wide[middles - 1] << np.uint64(42)) | (wide[middles] << np.uint64(21)) | wide[middles + 1]
    return Shingles(values, np.repeat(np.arange(len(texts)), np.diff(ends, prepend=0) - 1))


def _lay_out(texts: pa.Array) -> tuple[UnsignedArray, IntArray]:
    """The characters of all texts, one space before the first and one behind each; and where the latter are."""
    joined = "".join([" ", *(f"{text} " for text in texts.to_pylist())])
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    ends: IntArray = np.cumsum(lengths + 1)
    return np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32), ends


def _mix(values: UnsignedArray) -> UnsignedArray:
    """Spread 64-bit values evenly. Source: the finalizer of MurmurHash3, Appleby 2011."""
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xC4CEB9FE1A85EC53)
    mixed: UnsignedArray = values ^ (values >> np.uint64(33))
    return mixed
