"""Rows that are longer than an example may be: which of their tokens make which example.

A single text is cut as transformers cuts it, also into windows. Of a pair, the longer text is cut first; in windows,
the longer text moves on beside the shorter one, of which every window holds the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.errors import ModelError
from tunesmith.kinds.limit import Limit

IntArray = np.ndarray[Any, Any]

Run = tuple[int, int]
"""Tokens that follow one another in a row: the first, and the one behind the last."""


def check_room(limit: Limit, num_special: int, *, is_pair: bool) -> None:
    """Refuse a limit that leaves no room for a text, or none for a window to move on.

    Args:
        limit: What the recipe asks for.
        num_special: Special tokens that the tokenizer adds to each example.
        is_pair: Whether an example is a pair of texts.

    Raises:
        ModelError: Says what is possible.
    """
    if limit.max_length is None:
        return
    room = limit.max_length - num_special
    if room < 1:
        raise ModelError(
            f"tokenize.max_length is {limit.max_length}, but the tokenizer adds {num_special} special tokens to each "
            f"example; it must be at least {num_special + 1}."
        )
    narrowest = room - room // 2 if is_pair else room
    if limit.on_overflow == "window" and limit.stride >= narrowest:
        of_what = "of the longer text of a pair" if is_pair else "of text"
        raise ModelError(
            f"tokenize.stride is {limit.stride}, but a window may have no more than {narrowest} tokens {of_what} "
            f"(max_length {limit.max_length}, {num_special} of them special), and must move on. Set stride to "
            f"{narrowest - 1} or less, or raise max_length."
        )


@dataclass(frozen=True)
class Cut:
    """What becomes of a row that is too long.

    Attributes:
        examples: The tokens of each example, as runs in the row; none where the row is not to be an example.
        num_lost: Tokens of the row that are in no example.
    """

    examples: Sequence[Sequence[Run]]
    num_lost: int


def cut_row(
    num_tokens: int, texts: Sequence[Run], limit: Limit, *, keeps_end: bool = False, favors_first: bool = False
) -> Cut:
    """Decide which tokens of a row that is too long make which example.

    Args:
        num_tokens: How many the row has, more than the limit allows.
        texts: Where the text lies, or the two texts; what lies outside is special tokens, which every example has.
        limit: The limit.
        keeps_end: Whether the tokenizer cuts at the beginning; the windows then go from the end to the beginning.
        favors_first: To which text an odd token falls when both texts of a pair are cut; see `_share`.
    """
    assert limit.max_length is not None
    if limit.on_overflow in ("drop", "stop"):
        return Cut([], num_tokens)
    sizes = [stop - start for start, stop in texts]
    room = limit.max_length - (num_tokens - sum(sizes))
    shares = (room,) if len(sizes) == 1 else _share(sizes[0], sizes[1], room, favors_first=favors_first)
    kept = [_cut_text(text, share, keeps_end=keeps_end) for text, share in zip(texts, shares, strict=True)]
    num_lost = sum(sizes) - sum(shares)
    if limit.on_overflow == "truncate":
        return Cut([_complete(num_tokens, texts, kept)], num_lost)
    longer = 0 if len(sizes) == 1 or sizes[0] > sizes[1] else 1
    windows = _cut_windows(texts[longer], shares[longer], limit.stride, keeps_end=keeps_end)
    examples = [_complete(num_tokens, texts, [*kept[:longer], window, *kept[longer + 1 :]]) for window in windows]
    return Cut(examples, num_lost - (sizes[longer] - shares[longer]))


def expand_runs(starts: IntArray, lengths: IntArray) -> IntArray:
    """All places of some runs, one run after another.

    Example:
        >>> expand_runs(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    places: IntArray = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return places


def _cut_text(text: Run, share: int, *, keeps_end: bool) -> Run:
    start, stop = text
    return (stop - share, stop) if keeps_end else (start, start + share)


def _cut_windows(text: Run, width: int, stride: int, *, keeps_end: bool) -> list[Run]:
    """As tokenizers cuts them: each begins `width - stride` tokens behind the one before, the last is the rest."""
    start, stop = text
    num_windows = 1 + max(0, -(-(stop - start - width) // (width - stride)))
    moves = [number * (width - stride) for number in range(num_windows)]
    if keeps_end:
        return [(max(start, stop - move - width), stop - move) for move in moves]
    return [(start + move, min(start + move + width, stop)) for move in moves]


def _complete(num_tokens: int, texts: Sequence[Run], kept: Sequence[Run]) -> list[Run]:
    """What is kept of each text, with all that lies outside of the texts."""
    runs, done = [], 0
    for (start, stop), part in sorted(zip(texts, kept, strict=True)):
        runs += [(done, start), part]
        done = stop
    return [*runs, (done, num_tokens)]


def _share(first: int, second: int, room: int, *, favors_first: bool = False) -> tuple[int, int]:
    """How many tokens of each text fit in `room`: the longer is cut until both are equal, then both are cut.

    An odd token then falls to the first text where a tokenizer of python cuts, else to the longer, else to the second.

    Example:
        >>> _share(10, 2, 8), _share(10, 10, 9), _share(3, 10, 9)
        ((6, 2), (4, 5), (3, 6))
        >>> _share(10, 10, 9, favors_first=True)
        (5, 4)
    """
    shorter = min(first, second, room // 2)
    are_both_cut = shorter < min(first, second)
    is_first_greater = first > second or (favors_first and are_both_cut)
    return (room - shorter, shorter) if is_first_greater else (shorter, room - shorter)
