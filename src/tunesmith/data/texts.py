"""Operations on texts, a column at a time, with exactly the results of Python's own `str`, `html` and `unicodedata`.

Arrow's kernels do what they do alike; the rest is Python's, for the rows that it can change. Regular expressions are
RE2's: their time grows with the text and never explodes, so there are no look-arounds and no back references.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Unit = Literal["words", "characters"]
UnicodeForm = Literal["NFC", "NFKC"]

UNICODE_VERSION = unicodedata.unidata_version
"""The Unicode tables that shape `lower` and `normalize_unicode`: part of the key of what they make."""

WHITESPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
WHITESPACE += "\u2028\u2029\u202f\u205f\u3000"
"""What `str.split` and `str.strip` take for white space."""


def strip(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """As `str.strip`."""
    return pc.utf8_trim(texts, characters=WHITESPACE)


def collapse_whitespace(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """As `" ".join(text.split())`: every run of white space is one space, none is left at the ends."""
    return _map(texts, lambda text: " ".join(text.split()), pa.string())


def lower(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """As `str.lower`: Arrow's own kernel knows neither the final sigma nor letters that become two."""
    return _replace(pc.ascii_lower(texts), pc.invert(pc.string_is_ascii(texts)), texts, str.lower)


def unescape_html(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """As `html.unescape`."""
    return _replace(texts, pc.match_substring(texts, "&"), texts, html.unescape)


def normalize_unicode(texts: pa.ChunkedArray, form: UnicodeForm) -> pa.ChunkedArray:
    """As `unicodedata.normalize`."""
    is_other = pc.invert(pc.string_is_ascii(texts))
    return _replace(texts, is_other, texts, lambda text: unicodedata.normalize(form, text))


def replace_pattern(texts: pa.ChunkedArray, pattern: str, by: str) -> pa.ChunkedArray:
    r"""Every match of a pattern by a text, in which `\1` stands for the first group."""
    return pc.replace_substring_regex(texts, pattern, by)


def has_match(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Whether a pattern is found anywhere in each text; null for null."""
    return pc.match_substring_regex(texts, pattern)


def measure_length(texts: pa.ChunkedArray, unit: Unit) -> pa.ChunkedArray:
    """How many words, as `str.split` finds them, or characters each text has; null for null."""
    if unit == "characters":
        return pc.utf8_length(texts).cast(pa.int64())
    return _map(texts, lambda text: len(text.split()), pa.int64())


def check_pattern(pattern: str, by: str | None = None) -> None:
    """Refuse what is no regular expression of RE2, or no replacement for it.

    Raises:
        ValueError: Says what is wrong with it.
    """
    probe = pa.array(["x"])
    try:
        pc.match_substring_regex(probe, pattern)
        if by is not None:
            pc.replace_substring_regex(probe, pattern, by)
    except pa.ArrowInvalid as error:
        what = str(error).partition("\n")[0]
        raise ValueError(f"{what} (the syntax is RE2's: no look-around, no back reference in a pattern)") from None


def _map(texts: pa.ChunkedArray, function: Callable[[str], Any], kind: pa.DataType) -> pa.ChunkedArray:
    values = [None if text is None else function(text) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, kind)])


def _replace(
    done: pa.ChunkedArray, where: pa.ChunkedArray, texts: pa.ChunkedArray, function: Callable[[str], str]
) -> pa.ChunkedArray:
    """What is done already, but for the texts at `where`, which a function of Python changes."""
    if not pc.any(where).as_py():
        return done
    changed = [function(text) for text in texts.filter(where).to_pylist()]
    return pc.replace_with_mask(done, where.fill_null(False).combine_chunks(), pa.array(changed, pa.string()))
