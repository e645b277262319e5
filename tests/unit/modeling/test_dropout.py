"""Dropout on the CPU: the right rate and expectation, one mask forward and backward, and attention like sdpa's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.dropout import FastDropout, attend, drop, use_fast_dropout
from tunesmith.modeling.load import build_model

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
HARDLY = 2**-16
"""The smallest probability: what is computed with it can be compared with what is computed without dropout."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_as_many_elements_are_dropped_as_asked_and_the_expectation_stays(
    dtype: torch.dtype, probability: float
) -> None:
    kept = drop(torch.ones(1001, 999, dtype=dtype), probability)
    assert kept.dtype == dtype
    assert kept.eq(0).double().mean().item() == pytest.approx(probability, abs=0.003)
    assert kept.double().mean().item() == pytest.approx(1, abs=0.01)
    assert kept.unique().numel() == 2


def test_elements_are_dropped_each_for_itself() -> None:
    kept = drop(torch.ones(4_000_000), 0.5).ne(0).double().view(-1, 4) - 0.5
    correlations = (kept.T @ kept) / len(kept) * 4
    assert torch.allclose(correlations, torch.eye(4, dtype=torch.float64), atol=0.005)
    assert abs((kept.flatten()[:-4] * kept.flatten()[4:]).mean().item() * 4) < 0.005


def test_nothing_and_everything_can_be_dropped() -> None:
    values = torch.randn(5, 7)
    assert drop(values, 0.0) is values
    assert torch.equal(drop(values, 1.0), torch.zeros(5, 7))


def test_the_gradient_passes_where_the_value_did() -> None:
    values = torch.ones(100, 100, requires_grad=True)
    kept = drop(values, 0.3)
    kept.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, kept.detach())


def test_torch_s_generator_decides() -> None:
    state = torch.random.get_rng_state()
    first = drop(torch.ones(100), 0.5)
    second = drop(torch.ones(100), 0.5)
    torch.random.set_rng_state(state)
    assert torch.equal(drop(torch.ones(100), 0.5), first)
    assert not torch.equal(first, second)


def test_a_layer_drops_in_training_only() -> None:
    layer, values = FastDropout(0.5), torch.ones(100)
    assert layer(values).eq(0).any()
    assert layer.eval()(values) is values


def make_mask(kind: str, num_queries: int) -> torch.Tensor | None:
    if kind == "none":
        return None
    seen = torch.ones(3, 1, num_queries, num_queries, dtype=torch.bool)
    seen[1, :, :, -2:] = False
    return seen if kind == "booleans" else torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("mask", ["none", "booleans", "summands"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("num_key_value_heads", [4, 2])
def test_attention_is_that_of_sdpa_but_for_what_is_dropped(
    mask: str, is_causal: bool, num_key_value_heads: int
) -> None:
    layer: Any = nn.Module()
    layer.is_causal, layer.num_key_value_groups = is_causal, 4 // num_key_value_heads
    query = torch.randn(3, 4, 6, 8, requires_grad=True)
    key, value = torch.randn(2, 3, num_key_value_heads, 6, 8).unbind()
    expected, _ = sdpa_attention_forward(layer, query, key, value, make_mask(mask, 6))
    (wanted,) = torch.autograd.grad(expected.square().sum(), query)
    found, weights = attend(layer, query, key, value, make_mask(mask, 6), dropout=HARDLY)
    (gradient,) = torch.autograd.grad(found.square().sum(), query)
    assert weights is None
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(gradient, wanted, atol=1e-3)


def test_attention_without_dropout_is_sdpa_s_own() -> None:
    layer = nn.Module()
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind()
    expected, _ = sdpa_attention_forward(layer, query, key, value, None, is_causal=False)
    assert torch.equal(attend(layer, query, key, value, None, is_causal=False)[0], expected)


def test_attention_drops_whole_keys_of_a_query() -> None:
    query, key, value = torch.zeros(1, 1, 400, 8), torch.zeros(1, 1, 10, 8), torch.eye(10)[None, None]
    found, _ = attend(nn.Module(), query, key, value, None, dropout=0.25, is_causal=False)
    assert found.eq(0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert found.mean().item() == pytest.approx(0.1, abs=0.005)


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 11, 3, 0, 0]])
    return torch.as_tensor(model(input_ids=ids, attention_mask=ids.ne(0).long()).logits)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2, lora_dropout=0.1)])
def test_a_model_drops_and_its_evaluation_stays_to_the_last_bit(bert: Path, lora: LoraConfig | None) -> None:
    model = build_model(bert, CLASSES, ("a", "b"), lora, 0)
    expected = logits(model.eval()).detach()
    use_fast_dropout(model)
    assert not any(type(module) is nn.Dropout for module in model.modules())
    assert torch.equal(logits(model), expected)
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_a_model_that_hardly_drops_trains_as_without(bert: Path, tmp_path: Path) -> None:
    model = build_model(bert, CLASSES, ("a", "b"), None, 0)
    expected = logits(model.eval())
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.p = HARDLY
    use_fast_dropout(model)
    assert torch.allclose(logits(model.train()), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_what_is_saved_does_not_tell(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    examples: Any = CLASSES if name == "bert" else TextGeneration(kind="text-generation", text="text")
    labels = ("a", "b") if name == "bert" else ()
    for folder in ("plain", "fast"):
        model = build_model(request.getfixturevalue(name), examples, labels, None, 0)
        if folder == "fast":
            use_fast_dropout(model)
        model.save_pretrained(tmp_path / folder)
    plain, fast = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("plain", "fast"))
    assert plain == fast
