"""One row in a hundred has its near-duplicate in another split."""

import random
import resource
import time
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.leakage import DEFAULT_THRESHOLD
from tunesmith.data.likes import find_likes
from tunesmith.data.shingles import normalize

pytestmark = pytest.mark.slow

NUM_ROWS = 100_000
SYLLABLES = [first + second for first in "bcdfghklmnprstvz" for second in ("a", "en", "i", "or", "u")]
LETTERS = "abcdefghij"


def make_vocabulary(generator: random.Random) -> tuple[list[str], list[float]]:
    words = sorted({"".join(generator.choices(SYLLABLES, k=generator.randint(1, 4))) for _ in range(30_000)})
    generator.shuffle(words)
    return words, list(accumulate(1 / (rank + 10) for rank in range(len(words))))  # Zipf's law


def change(words: list[str], kind: int, generator: random.Random, vocabulary: list[str]) -> None:
    place = generator.randrange(len(words) - 1)
    match kind:
        case 0:
            words[place] = generator.choice(vocabulary)
        case 1:
            del words[place]
        case 2:
            words[place], words[place + 1] = words[place + 1], words[place]
        case 3:
            words[:] = [word.upper() if generator.random() < 0.5 else word.title() for word in words]
        case 4:
            words[:] = [word + generator.choice(["", ",", "!", " -"]) for word in words]
        case 5:
            letter = generator.randrange(len(words[place]))
            words[place] = words[place][:letter] + generator.choice(LETTERS) + words[place][letter + 1 :]


@pytest.mark.parametrize(("shortest", "longest"), [(8, 60), (4, 20)])
def test_planted_near_duplicates_are_found_and_little_else(shortest, longest):
    generator = random.Random(longest)
    vocabulary, frequencies = make_vocabulary(generator)
    lengths = [generator.randint(shortest, longest) for _ in range(NUM_ROWS)]
    texts = [" ".join(generator.choices(vocabulary, cum_weights=frequencies, k=length)) for length in lengths]
    codes = np.random.default_rng(longest).choice(3, NUM_ROWS, p=[0.8, 0.1, 0.1]).astype(np.int8)
    planted = generator.sample(range(NUM_ROWS), NUM_ROWS // 100)
    for number, row in enumerate(planted):
        words = texts[row].split()
        change(words, number % 6, generator, vocabulary)
        texts.append(" ".join(words))
        codes[row] = 0
    codes = np.concatenate([codes, np.array([1 + number % 2 for number in range(len(planted))], dtype=np.int8)])
    start = time.perf_counter()
    likes = find_likes([normalize(pa.array(texts))], codes, threshold=DEFAULT_THRESHOLD)
    seconds = time.perf_counter() - start
    found = {tuple(sorted(pair)) for pair in zip(likes.rows.tolist(), likes.partners.tolist(), strict=True)}
    wanted = {(row, NUM_ROWS + number) for number, row in enumerate(planted)}
    recall, precision = len(found & wanted) / len(wanted), len(found & wanted) / len(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{shortest}-{longest} words: recall {recall:.3f}, precision {precision:.3f}, {seconds:.1f} s, {peak:.0f} MB")
    assert recall >= 0.95
    assert precision >= 0.95
