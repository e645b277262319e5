from __future__ import annotations

import json

import pytest
import torch

from tunesmith.errors import TrainingError
from tunesmith.training.meter import LossMeter, MeteredStep


def step(number, loss, grad_norm=1.0, num_examples=4):
    return MeteredStep(
        number,
        torch.tensor(loss),
        torch.tensor(grad_norm),
        5e-5,
        num_examples,
        num_tokens=3 * num_examples,
        num_computed_tokens=4 * num_examples,
    )


def test_a_meter_restored_in_the_middle_gives_the_same_bits():
    losses = [0.1, 1 / 3, 0.7, 2 / 7]
    whole, first, second = LossMeter(), LossMeter(), LossMeter()
    for number, loss in enumerate(losses):
        whole.add(step(number, loss))
    for number, loss in enumerate(losses[:2]):
        first.add(step(number, loss))
    second.restore(json.loads(json.dumps(first.state())))
    for number, loss in enumerate(losses[2:]):
        second.add(step(number, loss))
    assert second.take_row() == whole.take_row()
    assert second.take_epoch() == whole.take_epoch()


def test_an_epoch_s_mean_weighs_each_step_by_its_examples():
    meter = LossMeter()
    meter.add(step(1, 1.0, num_examples=3))
    meter.add(step(2, 5.0, num_examples=1))
    assert meter.take_row()["train/loss"] == 3.0
    assert meter.take_epoch() == 2.0


@pytest.mark.parametrize(("loss", "grad_norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("inf"))])
def test_a_value_that_is_not_finite_is_refused_by_the_step_s_number(loss, grad_norm):
    meter = LossMeter()
    meter.add(step(6, 1.0))
    meter.add(step(7, loss, grad_norm))
    meter.add(step(8, 1.0))
    with pytest.raises(TrainingError, match=r"step 7: .* is (nan|inf) \(learning rate 5e-05\)"):
        meter.state()
