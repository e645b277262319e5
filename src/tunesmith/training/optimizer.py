"""The optimizers, the same in both engines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from tunesmith.training.config import TrainConfig

MOMENTUM = 0.9
"""Of SGD."""


def build_optimizer(model: Any, config: TrainConfig) -> Optimizer:
    """The recipe's optimizer for what is trained of a model.

    Matrices decay; vectors, which are the biases and the normalization weights, do not.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    match config.optimizer:
        case "adamw":
            return AdamW(groups, config.learning_rate, fused=True)
        case "adafactor":
            # Not torch's, which multiplies the rate by the size of the weights: an adapter, which begins with zeros,
            # would hardly learn.
            # Imported here, as transformers brings peft and all that peft can quantize with.
            from transformers.optimization import Adafactor

            make: Any = Adafactor  # transformers gives its constructor no types
            adafactor: Optimizer = make(groups, config.learning_rate, scale_parameter=False, relative_step=False)
            return adafactor
        case "sgd":
            is_fused = not config.fsdp  # torch's fused SGD knows no sharded weights
            return SGD(groups, config.learning_rate, momentum=MOMENTUM, nesterov=True, fused=is_fused)


def find_decay(config: TrainConfig, learning_rates: Iterable[float]) -> float:
    """What the optimizer leaves of a matrix that never gets a gradient, as a factor: AdamW's or SGD's weight decay.

    Args:
        config: The recipe's section.
        learning_rates: That of each step.
    """
    left, velocity = 1.0, 0.0
    for learning_rate in learning_rates:
        gradient = config.weight_decay * left
        if config.optimizer == "sgd":
            velocity = MOMENTUM * velocity + gradient
            gradient += MOMENTUM * velocity  # Nesterov's
        left -= learning_rate * gradient
    return left
