from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith.training.config import TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "lightning"},
        {"num_epochs": 0},
        {"num_epochs": 1.5},
        {"max_steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup_fraction": 1.0},
        {"weight_decay": -0.1},
        {"max_grad_norm": float("inf")},
        {"precision": "fp16"},
        {"seed": -1},
        {"save_steps": 0},
        {"num_processes": 0},
        {"epochs": 1},
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        TrainConfig(**wrong)


def test_every_field_has_a_docstring():
    assert all(field.description for field in TrainConfig.model_fields.values())


def test_keeping_the_best_of_a_single_validation_is_refused():
    best = {"early_stopping_patience": 2}
    for once in ({"num_epochs": 1}, {"max_steps": 100, "validation_steps": 100}):
        with pytest.raises(ValidationError, match=r"early_stopping_patience\s+has no effect on a single validation"):
            TrainConfig(**best, **once)
    for several in ({"num_epochs": 2}, {"max_steps": 100, "validation_steps": 99}):
        TrainConfig(**best, **several)


def test_sharding_needs_several_processes_and_what_can_be_sharded():
    assert TrainConfig(fsdp=True, num_processes=2, optimizer="sgd").fsdp
    told = r"no effect on a single process.*not go with compile.*adafactor"
    with pytest.raises(ValidationError, match=told) as refused:
        TrainConfig(fsdp=True, compile=True, optimizer="adafactor")
    assert refused.value.errors()[0]["loc"] == ("fsdp",)


def test_a_training_is_compiled_or_packed_and_not_both():
    with pytest.raises(ValidationError, match=r"compile\s+does not go with batching: packed"):
        TrainConfig(compile=True, batching="packed")
