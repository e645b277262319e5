from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import UserError
from tunesmith.training.config import TrainConfig
from tunesmith.training.schedule import Schedule, check_batch_size, check_validations


def schedule(num_examples, *, groups=True, **config):
    return Schedule(TrainConfig(**config), np.arange(num_examples) % 7 + 1, groups)


@given(
    num_examples=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 4),
    num_processes=st.integers(1, 3),
    num_epochs=st.integers(1, 3),
)
def test_each_epoch_sees_each_example_once_in_as_many_steps_as_planned(
    num_examples, batch_size, accumulation, num_processes, num_epochs
):
    plan = schedule(
        num_examples,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        num_processes=num_processes,
        num_epochs=num_epochs,
    )
    num_steps = 0
    for epoch in range(plan.num_epochs):
        steps = list(plan.steps(epoch, num_steps))
        num_steps += len(steps)
        assert sorted(np.concatenate([rows for step in steps for rows in step])) == list(range(num_examples))
        assert all(len(step) <= accumulation * num_processes for step in steps)
        assert all(len(rows) <= batch_size for step in steps for rows in step)
    assert num_steps == plan.num_steps


def test_several_processes_take_the_steps_that_one_takes_with_larger_batches():
    options = {"gradient_accumulation_steps": 2, "num_epochs": 2}
    several = schedule(43, per_device_train_batch_size=4, num_processes=3, **options)
    alone = schedule(43, per_device_train_batch_size=12, **options)
    assert several.num_steps == alone.num_steps
    for ours, theirs in zip(several.steps(1, 2), alone.steps(1, 2), strict=True):
        assert np.concatenate(ours).tolist() == np.concatenate(theirs).tolist()


def test_the_steps_from_the_middle_of_an_epoch_are_the_rest_of_it():
    plan = schedule(40, per_device_train_batch_size=4, gradient_accumulation_steps=2, num_epochs=2)
    whole, rest = list(plan.steps(1, 5)), list(plan.steps(1, 8))
    assert len(whole) == 5
    assert [[list(rows) for rows in step] for step in rest] == [[list(rows) for rows in step] for step in whole[3:]]


def test_max_steps_cuts_the_last_epoch_short():
    plan = schedule(40, per_device_train_batch_size=4, num_epochs=3, max_steps=14)
    assert (plan.num_steps, plan.num_epochs, plan.last_step(1)) == (14, 2, 14)
    assert len(list(plan.steps(1, 10))) == 4


def test_a_step_of_more_examples_than_there_are_is_refused_with_both_numbers():
    config = TrainConfig(per_device_train_batch_size=8, gradient_accumulation_steps=3)
    check_batch_size(config, 24)
    with pytest.raises(UserError, match=r"would take 24 examples .*8 x gradient_accumulation_steps 3.* has 23"):
        check_batch_size(config, 23)
    together = config.model_copy(update={"gradient_accumulation_steps": 1, "num_processes": 3})
    with pytest.raises(UserError, match=r"would take 24 examples .*x num_processes 3\), .* has 23"):
        check_batch_size(together, 23)


def test_the_best_of_a_single_validation_is_refused():
    config = TrainConfig(per_device_train_batch_size=4, num_epochs=3, max_steps=10, load_best_model_at_end=True)
    check_validations(config, 36)
    with pytest.raises(UserError, match=r"load_best_model_at_end has no effect: max_steps \(10\) .* of 10 steps"):
        check_validations(config, 40)


def test_a_training_of_one_step_learns():
    plan = schedule(4, per_device_train_batch_size=4, warmup_fraction=0.1)
    assert list(plan.learning_rates(plan.num_steps)) == [plan.config.learning_rate]


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.3])
def test_the_learning_rate_is_that_of_transformers(shape, warmup_fraction):
    import torch
    from transformers import get_scheduler

    plan = schedule(40, per_device_train_batch_size=4, lr_scheduler_type=shape, warmup_fraction=warmup_fraction)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    name = "constant_with_warmup" if shape == "constant" else shape
    theirs = get_scheduler(
        name, optimizer, num_warmup_steps=plan.num_warmup_steps, num_training_steps=plan.num_steps
    ).lr_lambdas[0]
    for step in range(plan.num_steps + 1):
        assert math.isclose(plan.learning_rate_factor(step), theirs(step), abs_tol=1e-12)
