"""The training losses between two rows, and their means: the same after a continuation, to the last bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError

if TYPE_CHECKING:
    import torch

    from tunesmith.training.prepared import Step


@dataclass(frozen=True)
class MeteredStep:
    """What a step leaves behind; tensors stay on the device until a row is due."""

    step: int
    loss: torch.Tensor
    grad_norm: torch.Tensor
    learning_rate: float
    num_examples: int
    num_tokens: int
    num_computed_tokens: int


def metered(number: int, step: Step, loss: torch.Tensor, grad_norm: torch.Tensor, learning_rate: float) -> MeteredStep:
    """What the step with this number leaves behind."""
    return MeteredStep(
        number, loss, grad_norm, learning_rate, step.num_examples, step.num_tokens, step.num_computed_tokens
    )


class LossMeter:
    """Sums up step by step in double precision, so that it does not matter when the sums are looked at."""

    def __init__(self) -> None:
        self._pending: list[MeteredStep] = []
        self._row_sum = 0.0
        self._row_steps = 0
        self._epoch_sum = 0.0
        self._epoch_examples = 0
        self._num_tokens = 0
        self._num_computed_tokens = 0
        self._last: dict[str, float] = {}

    def add(self, step: MeteredStep) -> None:
        """Note a step; copies nothing from the device."""
        self._pending.append(step)

    def state(self) -> dict[str, Any]:
        """The sums as JSON values.

        Raises:
            TrainingError: A loss or a gradient is not finite.
        """
        self._settle()
        return {
            "row_sum": self._row_sum,
            "row_steps": self._row_steps,
            "epoch_sum": self._epoch_sum,
            "epoch_examples": self._epoch_examples,
            "num_tokens": self._num_tokens,
            "num_computed_tokens": self._num_computed_tokens,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._row_sum, self._row_steps = state["row_sum"], state["row_steps"]
        self._epoch_sum, self._epoch_examples = state["epoch_sum"], state["epoch_examples"]
        self._num_tokens, self._num_computed_tokens = state["num_tokens"], state["num_computed_tokens"]

    @property
    def padding_fraction(self) -> float:
        """How much of what went through the model was padding, over the whole training; in [0, 1)."""
        self._settle()
        return 1 - self._num_tokens / self._num_computed_tokens

    def take_row(self) -> dict[str, float]:
        """The metrics of the steps since the last row: their mean loss, and the last one's rate and gradient norm.

        Raises:
            TrainingError: A loss or a gradient is not finite.
        """
        self._settle()
        mean = self._row_sum / self._row_steps
        self._row_sum, self._row_steps = 0.0, 0
        return {"train/loss": mean, **self._last}

    def take_epoch(self) -> float:
        """The mean loss of the epoch's examples, each as its step saw it.

        Raises:
            TrainingError: A loss or a gradient is not finite.
        """
        self._settle()
        mean = self._epoch_sum / self._epoch_examples
        self._epoch_sum, self._epoch_examples = 0.0, 0
        return mean

    def _settle(self) -> None:
        if not self._pending:
            return
        import torch

        pairs = torch.stack([torch.stack((step.loss, step.grad_norm)) for step in self._pending]).tolist()
        for step, (loss, grad_norm) in zip(self._pending, pairs, strict=True):
            _check_finite(step, loss, grad_norm)
            self._row_sum += loss
            self._row_steps += 1
            self._epoch_sum += loss * step.num_examples
            self._epoch_examples += step.num_examples
            self._num_tokens += step.num_tokens
            self._num_computed_tokens += step.num_computed_tokens
            self._last = {"train/learning_rate": step.learning_rate, "train/grad_norm": grad_norm}
        self._pending.clear()


def _check_finite(step: MeteredStep, loss: float, grad_norm: float) -> None:
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {grad_norm}"
    raise TrainingError(
        f"step {step.step}: {what} (learning rate {step.learning_rate:g}). Lower train.learning_rate or "
        "train.max_grad_norm, raise train.warmup_fraction, or set train.precision: fp32. "
        "The checkpoints from before it are kept."
    )
