"""Embeddings of the tokens that there are: the same losses and gradients, and the rest as it would have been."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, CanineConfig

from tunesmith.modeling.vocabulary import (
    NarrowEmbedding,
    count_embedded_tokens,
    count_left_out,
    narrow_vocabulary,
    widen_vocabulary,
)

TOKENS = torch.tensor([[7, 20, 31, 9], [20, 8, 0, 0]])
"""Of the classifier's 65; 0 is its padding."""
MASK = (TOKENS > 0).long()


def classifier(base):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(base).eval()


def presence(model, tokens=TOKENS):
    is_present = torch.zeros(len(model.get_input_embeddings().weight), dtype=torch.bool)
    is_present[tokens] = True
    return is_present


def backward(model):
    loss = model(input_ids=TOKENS, attention_mask=MASK, labels=torch.tensor([0, 1])).loss
    loss.backward()
    return loss


def test_losses_and_gradients_are_those_of_the_whole_model(bert):
    whole, narrow = classifier(bert), classifier(bert)
    size = len(whole.get_input_embeddings().weight)
    present = TOKENS.unique()
    assert narrow_vocabulary(narrow, presence(narrow)) == size - len(present)
    assert count_left_out(narrow) == (size - len(present)) * whole.config.hidden_size
    assert torch.equal(backward(narrow), backward(whole))
    for (name, own), (_, other) in zip(narrow.named_parameters(), whole.named_parameters(), strict=True):
        expected = other.grad[present] if "word_embeddings" in name else other.grad
        assert torch.equal(own.grad, expected), name


def test_the_padding_is_not_trained_though_the_data_does_not_name_it(bert):
    model = classifier(bert)
    is_present = presence(model)
    is_present[0] = False
    narrow_vocabulary(model, is_present)
    assert not is_present[0]  # the caller's own
    narrow = model.get_input_embeddings()
    assert narrow.padding_idx == 0
    backward(model)
    assert not narrow.weight.grad[0].any()


def test_widened_it_has_the_trained_rows_and_the_others_times_a_factor(bert):
    whole, model = classifier(bert), classifier(bert)
    narrow_vocabulary(model, presence(model))
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1.0)
    widen_vocabulary(model, 0.5)
    embedding, before = model.get_input_embeddings(), whole.get_input_embeddings().weight
    assert type(embedding) is nn.Embedding
    assert torch.equal(embedding.weight, torch.where(presence(model)[:, None], before + 1.0, before * 0.5))
    assert model.state_dict().keys() == whole.state_dict().keys()
    assert count_left_out(model) == 0
    widen_vocabulary(model, 0.5)  # of a model that is whole, nothing
    assert model.get_input_embeddings() is embedding


def test_a_token_that_was_left_out_is_an_error_and_never_another_tokens_row(bert):
    model = classifier(bert)
    narrow_vocabulary(model, presence(model))
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[7, 40]]))


def freeze(model):
    model.get_input_embeddings().weight.requires_grad = False


def share_weight(model):
    model.second = nn.Embedding(len(model.get_input_embeddings().weight), model.config.hidden_size)
    model.second.weight = model.get_input_embeddings().weight


def scale(model):
    model.get_input_embeddings().scale_grad_by_freq = True


class OwnEmbedding(nn.Embedding):
    """Who knows what it does."""


def replace(model):
    whole = model.get_input_embeddings()
    model.set_input_embeddings(OwnEmbedding(*whole.weight.shape, _weight=whole.weight))


@pytest.mark.parametrize("change", [freeze, share_weight, scale, replace])
def test_what_is_more_than_a_lookup_stays(bert, change):
    model = classifier(bert)
    change(model)
    before = model.get_input_embeddings()
    assert narrow_vocabulary(model, presence(model)) == 0
    assert model.get_input_embeddings() is before


def test_a_model_that_embeds_no_tokens_has_none_to_leave_out(bert):
    assert count_embedded_tokens(AutoModelForSequenceClassification.from_config(CanineConfig(num_hidden_layers=1))) == 0
    assert count_embedded_tokens(classifier(bert)) == len(classifier(bert).get_input_embeddings().weight)


def test_with_every_token_present_nothing_changes(bert):
    model = classifier(bert)
    assert narrow_vocabulary(model, torch.ones_like(presence(model))) == 0
    assert type(model.get_input_embeddings()) is nn.Embedding


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_language_model_is_narrow_where_its_output_has_weights_of_its_own(llama, is_tied):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(llama, tie_word_embeddings=is_tied))
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == is_tied
    narrow_vocabulary(model, presence(model, torch.tensor([1, 5, 6])))
    assert isinstance(model.get_input_embeddings(), NarrowEmbedding) != is_tied
    assert len(model.lm_head.weight) == model.config.vocab_size
