import itertools
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash

from tunesmith.data import near_duplicates
from tunesmith.data.near_duplicates import NUM_HASHES, compute_similarity, find_similar_pairs, sign
from tunesmith.data.shingles import find_words, normalize

WORDS = [
    first + second for first in ("ba", "ke", "lo", "mi", "nu", "ra", "si") for second in ("ka", "ron", "tal", "vex")
]


def jaccard(first: str, second: str) -> float:
    """The plain definition, to compare with."""
    one, two = (Counter(f" {text} "[i : i + 3] for i in range(len(text))) for text in (first, second))
    return sum((one & two).values()) / max(sum((one | two).values()), 1)


def make_texts(num_texts: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return sorted({" ".join(generator.choices(WORDS, k=generator.randint(3, 9))) for _ in range(num_texts)})


def test_a_signature_is_datasketchs_own():
    texts = pa.array(["to be or not to be", "that is the question"])
    words, owners = find_words(texts)
    signatures = sign(texts, seed=3)
    for text in (0, 1):
        reference = MinHash(NUM_HASHES, seed=3, hashfunc=lambda value: value)
        reference.update_batch([int(word) for word in words[owners == text]])
        assert np.array_equal(signatures[text], reference.hashvalues.astype(np.uint16))


def test_similarity_is_the_jaccard_of_trigrams_however_the_pairs_are_batched(monkeypatch):
    monkeypatch.setattr(near_duplicates, "BATCH_PAIRS", 7)
    texts = make_texts(12, seed=1)
    left, right = (np.array(side) for side in zip(*itertools.combinations(range(len(texts)), 2), strict=True))
    found = compute_similarity([pa.array(texts)], left, right)
    assert found.tolist() == pytest.approx([jaccard(texts[i], texts[j]) for i, j in zip(left, right, strict=True)])


def test_rows_are_as_similar_as_the_column_in_which_they_differ_most():
    columns = [pa.array(["same same", "same same"]), pa.array(["who was it", "when was it"]), pa.array(["", ""])]
    (similarity,) = compute_similarity(columns, np.array([0]), np.array([1]))
    assert similarity == pytest.approx(jaccard("who was it", "when was it"))


def test_the_pairs_are_those_of_comparing_every_text_with_every_other():
    texts = make_texts(70, seed=2)
    changed = [text.replace("ka", "ko", 1) for text in texts]
    texts = sorted({*texts, *changed})
    members = (1 << (np.arange(len(texts)) % 3)).astype(np.uint8)
    pairs = find_similar_pairs([pa.array(texts)], members, threshold=0.75)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if members[i] != members[j] and jaccard(texts[i], texts[j]) >= 0.75
    }
    assert found <= expected
    assert len(expected) > 10
    assert len(found) >= 0.97 * len(expected)


def test_texts_of_one_group_alone_are_not_compared():
    texts = pa.array(["a b c d e", "a b c d e f"])
    assert len(find_similar_pairs([texts], np.array([1, 1], dtype=np.uint8), threshold=0.5).left) == 0
    assert len(find_similar_pairs([texts], np.array([1, 3], dtype=np.uint8), threshold=0.5).left) == 1


def test_one_template_costs_a_few_comparisons_a_row(monkeypatch):
    texts = [f"please send the money from my account to the account number {number}" for number in range(3000)]
    members = np.where(np.arange(len(texts)) % 5 == 0, 2, 1).astype(np.uint8)
    compared = []
    compare = near_duplicates.compute_similarity

    def count(columns, left, right):
        compared.append(len(left))
        return compare(columns, left, right)

    monkeypatch.setattr(near_duplicates, "compute_similarity", count)
    pairs = find_similar_pairs([pa.array(texts)], members, threshold=0.65)
    assert sum(compared) < 20 * len(texts)
    assert len(np.unique(np.concatenate([pairs.left, pairs.right]))) > 0.95 * len(texts)


def test_the_same_seed_gives_the_same_pairs():
    texts, members = pa.array(make_texts(300, seed=4)), None
    members = (1 << (np.arange(len(texts)) % 2)).astype(np.uint8)
    first, second = (find_similar_pairs([texts], members, threshold=0.6, seed=9) for _ in range(2))
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))


def plant(text: str, kind: int, generator: random.Random) -> str:
    words = text.split()
    place = generator.randrange(len(words) - 1)
    match kind:
        case 0:
            words[place] = generator.choice(WORDS)
        case 1:
            del words[place]
        case 2:
            words[place], words[place + 1] = words[place + 1], words[place]
        case 3:
            words = [word.upper() if generator.random() < 0.5 else word for word in words]
        case 4:
            words = [word + generator.choice(["", ",", "!", " -"]) for word in words]
    return " ".join(words)


def test_planted_near_duplicates_are_found_and_little_else():
    generator = random.Random(5)
    vocabulary = [f"{one}{two}" for one in WORDS for two in WORDS]
    lengths = [generator.randint(4, 8) if number % 3 == 0 else generator.randint(8, 60) for number in range(4000)]
    texts = [" ".join(generator.choices(vocabulary, k=length)) for length in lengths]
    planted = [plant(texts[number], number % 5, generator) for number in range(400)]
    normal = normalize(pa.array([*texts, *planted])).dictionary_encode()
    numbers = normal.indices.to_numpy()
    members = np.zeros(len(normal.dictionary), dtype=np.uint8)
    members[numbers[:4000]] = 1
    members[numbers[4000:]] |= 2
    pairs = find_similar_pairs([normal.dictionary], members, threshold=0.65)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    wanted = {tuple(sorted((int(numbers[n]), int(numbers[4000 + n])))) for n in range(400)}
    wanted -= {(one, two) for one, two in wanted if one == two}
    assert len(found & wanted) >= 0.95 * len(wanted)
    assert len(found & wanted) >= 0.95 * len(found)
