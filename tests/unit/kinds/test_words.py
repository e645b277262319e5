"""Token ids word by word, against the tokenizer's own of whole texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

from tiny_models import LETTERS, WORDS
from tunesmith.kinds import words
from tunesmith.kinds.encoder import FastEncoder
from tunesmith.kinds.words import find_frame, splits_at_spaces
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder

ODD = [
    "",
    " ",
    "[SEP]",
    "[MASK]",
    "[sep]",
    "##s",
    "e\u0301",
    "\u0301",
    "\u00a0",
    "\u200b",
    "\x00",
    "\t",
    "\u3000",
    "中文",
    "🎬",
    "Σας",
]
TEXTS = st.lists(
    st.one_of(st.sampled_from([*WORDS, *ODD]), st.text(LETTERS + " ÄÉßΣ\u0301\u2028中🎬[]", max_size=5)), max_size=12
).map(" ".join)


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([texts], pa.string())


def encode_words(encoder: Any, *texts: list[str]) -> Any:
    frame = encoder._frames[len(texts) - 1]
    return encoder._words.encode([pa.array(part, pa.string()) for part in texts], frame)


@pytest.fixture
def encoder(bert: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(words, "MAX_NEW_FRACTION", 1)
    return make_encoder(load_tokenizer(bert))


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), is_pair=st.booleans())
def test_the_ids_and_types_are_those_of_whole_texts(bert: Path, rows: list[tuple[str, str]], is_pair: bool) -> None:
    tokenizer = load_tokenizer(bert)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "MAX_NEW_FRACTION", 1)
        texts = [list(part) for part in zip(*rows, strict=True)][: 1 + is_pair]
        found = make_encoder(tokenizer).encode(*map(column, texts), *([] if is_pair else [None]))
    expected = tokenizer(*texts)
    assert found.input_ids.tolist() == [number for ids in expected["input_ids"] for number in ids]
    assert found.token_type_ids is not None
    assert found.token_type_ids.tolist() == [number for types in expected["token_type_ids"] for number in types]
    assert found.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]
    for row in range(len(rows)):
        wanted = [expected.encodings[row].sequence_ids.count(text) for text in range(len(texts))]
        assert [stop - start for start, stop in found.find_texts(row)] == wanted


def test_a_word_is_tokenized_once_and_of_many_new_ones_whole_texts_are(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_encoder(load_tokenizer(bert))
    asked: list[list[str]] = []

    class Spy:
        def encode_batch_fast(self, batch: list[str], **options: Any) -> Any:
            asked.append(batch)
            return encoder.backend.encode_batch_fast(batch, **options)

    encoder._words._backend = Spy()
    assert encode_words(encoder, ["good bad", "film"]) is None
    encode_words(encoder, ["good good bad good", "bad good"])
    encode_words(encoder, ["good film bad", "good bad good"])
    assert asked == [["good", "bad"], ["film"]]
    whole = encoder.encode(column(["all of it is new", "to us"]), None)
    assert whole.input_ids.tolist() == encoder.encode(column(["all of it is new", "to us"]), None).input_ids.tolist()
    assert asked == [["good", "bad"], ["film"]]


def test_no_more_words_are_remembered_than_there_may_be(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MAX_WORDS", 3)
    expected = encode_words(make_encoder_like(encoder), ["good bad", "film story good"])
    encode_words(encoder, ["good bad film"])
    assert np.array_equal(encode_words(encoder, ["good bad", "film story good"]).input_ids, expected.input_ids)
    assert set(encoder._words._ids) == {"good", "bad", "film", "story"}
    encode_words(encoder, ["we"])
    assert set(encoder._words._ids) == {"we"}


def make_encoder_like(encoder: FastEncoder) -> Any:
    facts = {
        "pad_token_id": 0,
        "eos_token_id": None,
        "start_token_id": 0,
        "ends_once": False,
        "has_types": True,
        "keeps_end": False,
    }
    return FastEncoder.from_json(encoder.backend.to_str(), splits_special_tokens=False, **facts)


def change(encoder: Any, step: str) -> Tokenizer:
    backend = Tokenizer.from_str(encoder.backend.to_str())
    if step == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.BertNormalizer(), normalizers.Replace(" bad", "x")])
    elif step == "pre_tokenizer":
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        backend.add_tokens(["good film"])
    return backend


@pytest.mark.parametrize("step", ["normalizer", "pre_tokenizer", "added token"])
def test_a_tokenizer_that_may_see_across_a_space_gets_whole_texts(encoder: Any, step: str) -> None:
    assert splits_at_spaces(encoder.backend)
    assert not splits_at_spaces(change(encoder, step))


def test_byte_pairs_with_their_spaces_are_not_split(llama: Path) -> None:
    encoder = make_encoder(load_tokenizer(llama))
    assert isinstance(encoder, FastEncoder)
    assert not splits_at_spaces(encoder.backend)


def test_what_is_around_a_text_is_told_or_the_way_is_not_taken(encoder: Any) -> None:
    backend = encoder.backend
    frame = find_frame(backend.encode("a", "a"), 2)
    assert frame is not None
    assert (frame.specials, frame.types) == (((2,), (3,), (3,)), (0, 0, 0, 1, 1))
    specials = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing("$A", "$B $A", specials)
    assert find_frame(backend.encode("a", "a"), 2) is None
    backend.post_processor = processors.TemplateProcessing("[CLS]:0 [SEP]:1 $A", "$A $B", specials)
    assert find_frame(backend.encode("a"), 1) is None


def test_no_rows_are_no_rows(encoder: Any) -> None:
    for pairs in (None, column([])):
        found = encoder.encode(column([]), pairs)
        assert (len(found.input_ids), len(found.lengths)) == (0, 0)


def test_the_whitelist_reads_what_a_tokenizer_file_says(encoder: Any) -> None:
    definition = json.loads(encoder.backend.to_str())
    assert definition["normalizer"]["type"] == "BertNormalizer"
    assert (definition["pre_tokenizer"]["type"], definition["model"]["type"]) == ("BertPreTokenizer", "WordPiece")


def test_a_process_forked_after_tokenizing_prints_no_warning(bert: Path) -> None:
    code = f"""
import os, pathlib, pyarrow as pa
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.tokens import tokenize
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder
encoder = make_encoder(load_tokenizer(pathlib.Path({str(bert)!r})))
texts = pa.chunked_array([["good film"] * 3000])
tokenize(encoder, texts, None, Limit(max_length=32))
if os.fork() == 0:
    tokenize(encoder, texts.slice(0, 2), None, Limit(max_length=32))
    os._exit(0)
os.wait()
"""
    environ = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
