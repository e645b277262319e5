"""Token ids by way of words, for tokenizers to which a space always ends a word: every word is tokenized once.

Most of a text are words that were there before, so this takes a fraction of the time; the `tokenizers` library still
says what each word's ids are. It is exact where nothing that the tokenizer does can see across a space: normalizing and
splitting as BERT does, and word pieces. Any other tokenizer gets whole texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.kinds.overflow import Run, expand_runs

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

IntArray = np.ndarray[Any, Any]

MAX_WORDS = 1_000_000
"""Words that are remembered before it starts anew: a few hundred MB at most."""
MAX_NEW_FRACTION = 0.5
"""Of texts in which more of the words are new, whole texts are faster."""
BATCH_WORDS = 1000


def splits_at_spaces(backend: Tokenizer) -> bool:
    """Whether a text's ids are those of its words, one after another."""
    definition = json.loads(backend.to_str())
    steps = [(definition[step] or {}).get("type") for step in ("normalizer", "pre_tokenizer", "model")]
    added = [token["content"] for token in definition["added_tokens"]]
    return (
        steps[0] in (None, "BertNormalizer")
        and steps[1:] == ["BertPreTokenizer", "WordPiece"]
        and not any(character.isspace() for content in added for character in content)
    )


@dataclass(frozen=True)
class Frame:
    """What every row has around its text, or around its two texts.

    Attributes:
        specials: The ids before, (between) and behind.
        types: The token type of each part: special tokens, text, special tokens, ...
    """

    specials: tuple[tuple[int, ...], ...]
    types: tuple[int, ...]


def find_frame(encoding: Encoding, num_texts: int) -> Frame | None:
    """What is around the texts of a row, all of which have a token; None where that cannot be told."""
    numbers = encoding.sequence_ids
    bounds = [0, *chain.from_iterable(find_run(numbers, number) for number in range(num_texts)), len(numbers)]
    types = [set(encoding.type_ids[start:stop]) or {0} for start, stop in pairwise(bounds)]
    is_in_order = bounds == sorted(bounds) and all(number in numbers for number in range(num_texts))
    if not is_in_order or any(len(found) != 1 for found in types):
        return None
    specials = [tuple(encoding.ids[start:stop]) for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    return Frame(tuple(specials), tuple(found.pop() for found in types))


def find_run(values: Sequence[Any], wanted: int) -> Run:
    """Where a value stands, which stands in one run or nowhere."""
    number = values.count(wanted)
    start = values.index(wanted) if number else 0
    return start, start + number


@dataclass(frozen=True)
class WordRows:
    """The token ids of some rows.

    Attributes:
        input_ids: int32, of all rows one after another.
        token_type_ids: int8, as many.
        sizes: Tokens of each part of each row: special tokens, text, special tokens, ...; shape (num_rows, num_parts).
    """

    input_ids: IntArray
    token_type_ids: IntArray
    sizes: IntArray


class Words:
    """The words that were met, and their ids.

    Args:
        backend: A tokenizer that splits at spaces.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._ids: dict[str, list[int]] = {}

    def encode(self, columns: Sequence[pa.Array], frame: Frame) -> WordRows | None:
        """The token ids of rows of as many texts as there are columns; None where too many of their words are new."""
        split = [pc.split_pattern(column, " ") for column in columns]
        words = pa.concat_arrays([part.flatten() for part in split]).dictionary_encode()
        ids = self._look_up(words.dictionary.to_pylist(), len(words))
        if ids is None:
            return None
        num_words = [pc.list_value_length(part).to_numpy(zero_copy_only=False).astype(np.int64) for part in split]
        order, firsts = _put_in_order(words.indices.to_numpy(), num_words, len(ids))
        return _compose(order, firsts, [*ids, *frame.specials], frame.types)

    def _look_up(self, words: Sequence[str], num_words: int) -> list[list[int]] | None:
        known = self._ids
        new = [word for word in words if word not in known]
        if len(new) > MAX_NEW_FRACTION * num_words:
            return None
        if len(known) + len(new) > MAX_WORDS:
            known = self._ids = {}  # not cleared: another thread may still be reading it
            new = [*words]
        for start in range(0, len(new), BATCH_WORDS):
            batch = new[start : start + BATCH_WORDS]
            encodings = self._backend.encode_batch_fast(batch, add_special_tokens=False)
            known.update(zip(batch, (encoding.ids for encoding in encodings), strict=True))
        return [known[word] for word in words]


def _put_in_order(words: IntArray, num_words: Sequence[IntArray], first_special: int) -> tuple[IntArray, IntArray]:
    """All rows as one list of words and special tokens.

    Args:
        words: The numbers of the words of the first texts of all rows, then of the second texts.
        num_words: Words of each text, an array a column.
        first_special: The number of the special tokens before the first text; the others follow.

    Returns:
        The numbers, and where in them each part of each row begins, shape (num_rows, num_parts).
    """
    ones = np.ones_like(num_words[0])
    sizes = np.column_stack([ones, *(part for number in num_words for part in (number, ones))])
    firsts = (np.cumsum(sizes) - sizes.ravel()).reshape(sizes.shape)
    order = np.empty(int(sizes.sum()), np.int64)
    done = 0
    for column, number in enumerate(num_words):
        begins = firsts[:, 1 + 2 * column]
        order[expand_runs(begins, number)] = words[done : done + int(number.sum())]
        done += int(number.sum())
    for special in range(len(num_words) + 1):
        order[firsts[:, 2 * special]] = first_special + special
    return order, firsts


def _compose(order: IntArray, firsts: IntArray, ids: Sequence[Sequence[int]], types: Sequence[int]) -> WordRows:
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
    found = lengths[order]
    ends = np.concatenate([[0], np.cumsum(found)])
    bounds = np.append(ends[firsts.ravel()], ends[-1])
    sizes = np.diff(bounds)
    return WordRows(
        input_ids=flat[expand_runs((np.cumsum(lengths) - lengths)[order], found)],
        token_type_ids=np.repeat(np.tile(np.array(types, np.int8), len(firsts)), sizes),
        sizes=sizes.reshape(firsts.shape),
    )
