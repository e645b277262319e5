from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from tiny_models import WORDS
from tunesmith.errors import ModelError
from tunesmith.kinds import tokens, words
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.tokens import TokenRows, cut_by_length, take_rows
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder

SIDES = ["left", "right"]
ODD_TEXTS = [
    "",
    " ",
    "\x00",
    "🎬👩‍👩‍👧",
    "\u202e\u05e2\u05d1\u05e8 abc",
    "a" * 5000,
    "\ufffd\ufeff",
    "good\r\n\tbad",
    "e\u0301",
]


@pytest.fixture(autouse=True, scope="module", params=["word by word", "whole texts"])
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs both ways: what comes out must not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "MAX_NEW_FRACTION", 1 if request.param == "word by word" else -1)
        yield


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([texts], pa.string())


def tokenize(
    tokenizer: Any, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, max_length: int | None, **policy: Any
) -> TokenRows:
    return tokens.tokenize(make_encoder(tokenizer), texts, pairs, Limit(max_length=max_length, **policy))


def as_lists(rows: TokenRows) -> list[list[int]]:
    return [ids.tolist() for ids in take_rows(rows, np.arange(len(rows.lengths))).tokens["input_ids"].split()]


def test_the_ids_are_those_of_the_ordinary_call(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    rows = tokenize(tokenizer, column(ODD_TEXTS), None, 32)
    assert as_lists(rows) == tokenizer(ODD_TEXTS, truncation=True, max_length=32)["input_ids"]


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.sampled_from(["good", "bad", "film"]), max_size=20),
    second=st.lists(st.sampled_from(["story", "very"]), min_size=1, max_size=20),
    max_length=st.integers(4, 24),
    side=st.sampled_from(["left", "right"]),
)
def test_a_pair_is_cut_as_the_tokenizer_itself_cuts_it(
    bert: Path, first: list[str], second: list[str], max_length: int, side: str
) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.truncation_side = side
    texts = " ".join(first), " ".join(second)
    rows = tokenize(tokenizer, column([texts[0]]), column([texts[1]]), max_length)
    expected = tokenizer(*texts, truncation="longest_first", max_length=max_length)
    assert as_lists(rows) == [expected["input_ids"]]
    assert rows.token_type_ids is not None
    assert rows.token_type_ids.tolist() == expected["token_type_ids"]
    assert rows.counts["num_truncated"] == (len(first) + len(second) + 3 > max_length)


def test_a_pair_of_very_long_texts_is_cut_in_no_time(bert: Path) -> None:
    long = column(["good film " * 8000])
    start = time.perf_counter()
    rows = tokenize(load_tokenizer(bert), long, long, 64)
    assert (rows.counts["num_tokens"], rows.counts["num_tokens_lost"]) == (64, 2 * 16_000 + 3 - 64)
    assert time.perf_counter() - start < 5  # every overflowing window of both would take minutes


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_the_ids_do_not_depend_on_the_batch(bert: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int) -> None:
    whole = tokenize(load_tokenizer(bert), column(ODD_TEXTS), None, 16)
    monkeypatch.setattr(tokens, "BATCH_ROWS", batch_rows)
    assert as_lists(tokenize(load_tokenizer(bert), column(ODD_TEXTS), None, 16)) == as_lists(whole)


def test_the_tokenizer_is_left_as_it_was_and_its_own_padding_is_not_used(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.backend_tokenizer.enable_padding(length=40)
    tokenizer.backend_tokenizer.enable_truncation(3)
    before = tokenizer.backend_tokenizer.to_str()
    assert tokenize(tokenizer, column(["good film"]), None, 32).lengths.tolist() == [4]
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_python_tokenizer_works_and_counts_what_it_cuts() -> None:
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    rows = tokenize(tokenizer, column(["abc", "abcdefghij", ""]), None, 6)
    assert as_lists(rows) == tokenizer(["abc", "abcdefghij", ""], truncation=True, max_length=6)["input_ids"]
    assert (rows.counts["num_truncated"], rows.counts["num_tokens_lost"]) == (1, 5)
    assert dict(rows.too_long) == {1: 11}
    pairs = tokenize(tokenizer, column(["abc"]), column(["x"]), 60)
    assert as_lists(pairs) == [tokenizer("abc", "x")["input_ids"]]


@settings(deadline=None)
@given(first=st.integers(0, 12), second=st.integers(1, 12), max_length=st.integers(4, 20), side=st.sampled_from(SIDES))
def test_a_python_tokenizer_cuts_a_pair_as_it_would_itself(first: int, second: int, max_length: int, side: str) -> None:
    tokenizer = ByT5Tokenizer(truncation_side=side)
    texts = "abcdefghijkl"[:first], "mnopqrstuvwx"[:second]
    rows = tokenize(tokenizer, column([texts[0]]), column([texts[1]]), max_length)
    assert as_lists(rows) == [tokenizer(*texts, truncation="longest_first", max_length=max_length)["input_ids"]]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    max_length=st.integers(4, 16),
    stride=st.integers(0, 12),
    side=st.sampled_from(SIDES),
)
def test_windows_are_those_of_return_overflowing_tokens(
    bert: Path, lengths: list[int], max_length: int, stride: int, side: str
) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.truncation_side = side
    stride = min(stride, max_length - 3)
    texts = [" ".join(f"{WORDS[number % len(WORDS)]}" for number in range(length)) for length in lengths]
    rows = tokenize(tokenizer, column(texts), None, max_length, on_overflow="window", stride=stride)
    expected = tokenizer(texts, truncation=True, max_length=max_length, stride=stride, return_overflowing_tokens=True)
    assert as_lists(rows) == expected["input_ids"]
    assert rows.texts.tolist() == expected["overflow_to_sample_mapping"]
    assert rows.token_type_ids is not None
    assert rows.token_type_ids.tolist() == [number for types in expected["token_type_ids"] for number in types]
    assert rows.counts["num_tokens_lost"] == rows.counts["num_dropped"] == rows.counts["num_truncated"] == 0
    assert rows.counts["num_overflowing"] == sum(length + 2 > max_length for length in lengths)


@pytest.mark.parametrize("side", SIDES)
def test_windows_of_a_pair_are_those_of_its_second_text_where_that_is_the_longer(bert: Path, side: str) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.truncation_side = side
    pair = "good film", "the story was very very bad and we liked it not"
    rows = tokenize(tokenizer, column([pair[0]]), column([pair[1]]), 10, on_overflow="window", stride=2)
    expected = tokenizer(*pair, truncation="only_second", max_length=10, stride=2, return_overflowing_tokens=True)
    assert as_lists(rows) == expected["input_ids"]
    assert rows.token_type_ids is not None
    assert rows.token_type_ids.tolist() == [number for types in expected["token_type_ids"] for number in types]
    assert rows.windows.tolist() == list(range(len(expected["input_ids"])))


def test_of_a_pair_of_long_texts_windows_hold_half_of_the_shorter_and_count_what_is_lost(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    first, second = " ".join(["good"] * 9), " ".join(["bad", "film"] * 4)
    rows = tokenize(tokenizer, column([first]), column([second]), 11, on_overflow="window", stride=1)
    good, others = tokenizer.convert_tokens_to_ids("good"), tokenizer(second, add_special_tokens=False)["input_ids"]
    assert [ids.count(good) for ids in as_lists(rows)] == [4, 4, 3]
    assert all([token for token in ids if token in others] == others[:4] for ids in as_lists(rows))
    assert (rows.counts["num_truncated"], rows.counts["num_tokens_lost"]) == (1, 4)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 30), max_size=8), policy=st.sampled_from(["truncate", "window", "drop", "stop"]))
def test_every_row_is_an_example_or_counted_as_dropped(bert: Path, lengths: list[int], policy: str) -> None:
    rows = tokenize(
        load_tokenizer(bert), column(["good " * length for length in lengths]), None, 12, on_overflow=policy
    )
    assert len(set(rows.texts.tolist())) + rows.counts["num_dropped"] == rows.counts["num_rows"] == len(lengths)
    assert rows.counts["num_examples"] == len(rows.texts) == len(rows.lengths)
    too_long = [length + 2 for length in lengths if length > 10]
    assert rows.counts["num_overflowing"] == len(too_long)
    assert rows.counts["num_tokens_read"] == sum(length + 2 for length in lengths)
    assert list(rows.too_long.values()) == too_long[: tokens.MAX_NAMED]
    if policy in ("drop", "stop"):
        assert set(rows.texts.tolist()) == {row for row, length in enumerate(lengths) if length <= 10}
        assert rows.counts["num_tokens_lost"] == sum(too_long)


def test_a_special_token_that_is_written_out_is_text_where_the_tokenizer_says_so(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.split_special_tokens = True
    rows = tokenize(tokenizer, column(["good [SEP] film"]), None, 32)
    assert as_lists(rows) == tokenizer(["good [SEP] film"])["input_ids"]
    assert as_lists(rows) != as_lists(tokenize(load_tokenizer(bert), column(["good [SEP] film"]), None, 32))


def test_a_tokenizer_of_python_ends_each_row_alike_for_a_model_that_looks_at_ends(tmp_path: Path) -> None:
    ByT5Tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    load_tokenizer(tmp_path / "model").save_pretrained(tmp_path / "apart")
    for folder in (tmp_path / "model", tmp_path / "apart"):
        tokenizer = load_tokenizer(folder)
        rows = tokenize(tokenizer, column(["</s>a</s>", "a"]), column(["b", "</s>"]), 64)
        assert [ids.count(tokenizer.eos_token_id) for ids in as_lists(rows)] == [2, 2]


def test_a_length_without_room_for_a_text_is_refused(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"max_length is 2, .* adds 2 special tokens.*at least 3"):
        tokenize(load_tokenizer(bert), column(["a"]), None, 2)
    with pytest.raises(ModelError, match="at least 4"):
        tokenize(load_tokenizer(bert), column(["a"]), column(["a"]), 3)


@pytest.mark.parametrize(("stride", "pairs", "most"), [(8, None, 7), (5, ["bad"], 3)])
def test_a_stride_with_which_a_window_could_not_move_on_is_refused(
    bert: Path, stride: int, pairs: list[str] | None, most: int
) -> None:
    tokenizer = load_tokenizer(bert)
    seconds = None if pairs is None else column(pairs)
    with pytest.raises(ModelError, match=rf"stride is {stride}, .*must move on. Set stride to {most} or less"):
        tokenize(tokenizer, column(["a"]), seconds, 10, on_overflow="window", stride=stride)
    assert tokenize(tokenizer, column(["a"]), seconds, 10, on_overflow="window", stride=most).counts["num_rows"] == 1


def test_batches_by_length_hold_every_row_once_with_the_longest_first(bert: Path) -> None:
    rows = tokenize(load_tokenizer(bert), column(["good " * number for number in (3, 9, 1, 5)]), None, 32)
    assert [batch.tolist() for batch in cut_by_length(rows, 3)] == [[1, 3, 0], [2]]
