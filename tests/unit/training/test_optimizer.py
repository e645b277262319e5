"""How far each optimizer moves the weights at the recipe's learning rate."""

import pytest
import torch
from torch import nn

from tunesmith.training.config import TrainConfig
from tunesmith.training.optimizer import build_optimizer

RATE = 1e-3


def find_move(optimizer, weight, *, steps=5, **options):
    """The mean distance by which a weight moves at each step, against a gradient that stays as it is."""
    layer = nn.Linear(*reversed(weight.shape), bias=False)
    layer.weight = nn.Parameter(weight.clone())
    built = build_optimizer(layer, TrainConfig(optimizer=optimizer, learning_rate=RATE, **options))
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        layer.weight.grad = gradient.clone()
        built.step()
    return (layer.weight - weight).abs().mean().item() / steps


@pytest.mark.parametrize("size", [0.0, 0.02, 1.0])
def test_adafactor_moves_weights_of_any_size_as_far_as_adamw(size):
    weight = torch.full((8, 16), size)
    adamw, adafactor = (find_move(name, weight, weight_decay=0.0) for name in ("adamw", "adafactor"))
    assert adamw == pytest.approx(RATE, rel=0.05)
    assert adafactor == pytest.approx(adamw, rel=0.4)


def test_adafactor_s_weight_decay_is_that_of_adamw():
    still = torch.nn.Linear(4, 4, bias=False)
    for name in ("adamw", "adafactor"):
        layer = nn.Linear(4, 4, bias=False)
        layer.load_state_dict(still.state_dict())
        built = build_optimizer(layer, TrainConfig(optimizer=name, learning_rate=RATE, weight_decay=0.5))
        layer.weight.grad = torch.zeros(4, 4)
        built.step()
        assert torch.allclose(layer.weight, still.weight * (1 - RATE * 0.5))
