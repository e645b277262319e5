from __future__ import annotations

import pytest
import transformers

from tunesmith.errors import ModelError
from tunesmith.training.batching import choose_batching
from tunesmith.training.config import TrainConfig

TINY = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def build(config):
    return transformers.AutoModelForSequenceClassification.from_config(config(**TINY, pad_token_id=1))


def choose(model, *, has_padding=True, **train):
    return choose_batching(TrainConfig(**train), model, has_padding=has_padding)


def test_auto_packs_a_model_that_can_be_packed():
    model = build(transformers.BertConfig)
    assert choose(model).way == "packed"
    assert model.config._attn_implementation.startswith("tunesmith_packed")


@pytest.mark.parametrize("batching", ["grouped", "padded"])
def test_what_is_asked_for_is_done(batching):
    model = build(transformers.BertConfig)
    assert choose(model, batching=batching) == (batching, "asked for")
    assert model.config._attn_implementation == "sdpa"


def test_auto_groups_where_a_model_cannot_be_packed_and_says_why():
    model = build(transformers.MPNetConfig)
    way, why = choose(model)
    assert way == "grouped"
    assert "a mpnet model cannot be packed: its attention (eager) is its own" in why
    with pytest.raises(ModelError, match="cannot be packed"):
        choose(model, batching="packed")


def test_a_compiled_model_is_grouped():
    assert choose(build(transformers.BertConfig), compile=True) == ("grouped", "a compiled model is not packed")


def test_where_examples_are_equally_long_nothing_is_done():
    model = build(transformers.BertConfig)
    assert choose(model, has_padding=False) == ("padded", "the examples are equally long")
    assert model.config._attn_implementation == "sdpa"
