from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from tunesmith.errors import ModelError
from tunesmith.kinds import tokens
from tunesmith.kinds.tokens import TokenRows, cut_by_length, take_rows, tokenize
from tunesmith.modeling.load import load_tokenizer

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


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([texts], pa.string())


def as_lists(rows: TokenRows) -> list[list[int]]:
    return [np.asarray(row["input_ids"]).tolist() for row in take_rows(rows, np.arange(len(rows.lengths)))]


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
    assert rows.num_truncated == (len(first) + len(second) + 3 > max_length)


def test_a_pair_of_very_long_texts_is_cut_in_no_time(bert: Path) -> None:
    long = column(["good film " * 8000])
    start = time.perf_counter()
    rows = tokenize(load_tokenizer(bert), long, long, 64)
    assert (rows.num_tokens, rows.num_truncated) == (64, 1)
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
    assert rows.lengths.tolist() == [4, 6, 1]
    assert rows.num_truncated == 1
    pairs = tokenize(tokenizer, column(["abc"]), column(["x"]), 60)
    assert as_lists(pairs) == [tokenizer("abc", "x")["input_ids"]]


def test_a_length_without_room_for_a_text_is_refused(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"max_length is 2, .* adds 2 special tokens.*at least 3"):
        tokenize(load_tokenizer(bert), column(["a"]), None, 2)
    with pytest.raises(ModelError, match="at least 4"):
        tokenize(load_tokenizer(bert), column(["a"]), column(["a"]), 3)


def test_batches_by_length_hold_every_row_once_with_the_longest_first(bert: Path) -> None:
    rows = tokenize(load_tokenizer(bert), column(["good " * number for number in (3, 9, 1, 5)]), None, 32)
    assert [batch.tolist() for batch in cut_by_length(rows, 3)] == [[1, 3, 0], [2]]


def test_a_process_forked_after_tokenizing_prints_no_warning(bert: Path) -> None:
    code = f"""
import os, pathlib, pyarrow as pa
from tunesmith.kinds.tokens import tokenize
from tunesmith.modeling.load import load_tokenizer
tokenizer = load_tokenizer(pathlib.Path({str(bert)!r}))
texts = pa.chunked_array([["good film"] * 3000])
tokenize(tokenizer, texts, None, 32)
if os.fork() == 0:
    tokenize(tokenizer, texts.slice(0, 2), None, 32)
    os._exit(0)
os.wait()
"""
    environ = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
