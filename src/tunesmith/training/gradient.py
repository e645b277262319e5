"""The gradient of a step, computed in as many micro-batches as fit into the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tunesmith.errors import OutOfMemoryError, TrainingError
from tunesmith.modeling.out_of_memory import is_out_of_memory
from tunesmith.modeling.placing import give_back_memory
from tunesmith.training.checkpoints import Position
from tunesmith.training.job import Job
from tunesmith.training.loss import IGNORED, Batch, Loss, find_targets
from tunesmith.training.prepared import Step
from tunesmith.training.processes import add_up, add_up_gradients, find_greatest, find_least


def find_limit(job: Job, position: Position) -> int | None:
    """Most tokens that may go through the model at once: what the recipe says, or less where memory has run out."""
    limits = (job.train.max_micro_batch_tokens, position.max_micro_batch_tokens, job.known_limit)
    return min((limit for limit in limits if limit is not None), default=None)


class GradientSum:
    """Adds up the gradient of each step, the same whatever the micro-batches it is computed in.

    A micro-batch that does not fit into the memory is cut in parts, and so are all later ones of its size: the step is
    computed again from its beginning, with the same random numbers, as if they had been smaller from the start. Other
    processes do not notice: they are talked to before and after, and not in a pass.

    Args:
        loss: What is minimised.
        device: Where the model is.
        max_tokens: Most tokens that go through the model at once, padding included; None: whatever a micro-batch has.
        on_limit: Is told the new `max_tokens` when the memory ran out.
        is_sharded: Whether the processes talk to each other in every pass, because none has the whole model. So they
            make equally many, and none can begin again.
    """

    def __init__(
        self,
        loss: Loss,
        device: torch.device,
        max_tokens: int | None,
        on_limit: Callable[[int], None],
        *,
        is_sharded: bool = False,
    ) -> None:
        self._loss, self._device, self._on_limit, self._is_sharded = loss, device, on_limit, is_sharded
        self.max_tokens = max_tokens

    def add(self, model: Any, step: Step) -> Tensor:
        """Add the gradient of a step's mean loss to that of the weights, which is none yet: over all processes.

        Returns:
            The loss, a scalar on the device.

        Raises:
            TrainingError: Not even a single example fits into the memory.
            OutOfMemoryError: A micro-batch does not, and the model is sharded.
        """
        weights = [float(self._loss.weigh(batch)) for batch in step.batches]
        whole = float(add_up(torch.tensor(sum(weights), dtype=torch.float64)))
        loss = self._compute_in_parts(model, step, whole)
        if not self._is_sharded:
            add_up_gradients([parameter for parameter in model.parameters() if parameter.requires_grad])
        return add_up(loss)

    def compute_loss(self, model: Any, batch: Batch) -> tuple[float, int]:
        """A validation batch's own loss, without gradient, in as many parts as the limit or the memory asks for.

        Returns:
            The sum over the targets, and their number.

        Raises:
            TrainingError: Not even a single example fits into the memory.
            OutOfMemoryError: A part does not, and the model is sharded.
        """
        while True:
            try:
                return self._compute_loss(model, [*split_batch(batch, self.max_tokens)])
            except _NoRoomError as error:
                size = error.size
            self._lower_limit(size)  # outside of the handler: the error holds on to what the pass has computed

    def agree_on_limit(self) -> int | None:
        """The lowest `max_tokens` of all processes, which all have from now on: a continuation knows only one."""
        none = 2**62
        least = find_least(none if self.max_tokens is None else self.max_tokens)
        if least not in (none, self.max_tokens):
            self.max_tokens = least
            self._on_limit(least)
        return self.max_tokens

    def _compute_in_parts(self, model: Any, step: Step, whole: float) -> Tensor:
        randomness = _get_randomness(self._device)
        while True:
            try:
                return self._compute(model, step, whole)
            except _NoRoomError as error:
                size = error.size
            self._lower_limit(size)  # outside of the handler: the error holds on to what the pass has computed
            model.zero_grad(set_to_none=True)
            _set_randomness(self._device, randomness)

    def _compute(self, model: Any, step: Step, whole: float) -> Tensor:
        parts = [part for batch in step.batches for part in split_batch(batch, self.max_tokens)]
        num_passes = find_greatest(len(parts)) if self._is_sharded else len(parts)
        # The mean over the step's targets, not over each part's: the gradient does not depend on the cuts. Plain
        # numbers, as a tensor of them would make the product one in fp64, which Apple's GPUs do not have.
        losses = [self._pass(model, part, float(self._loss.weigh(part)) / whole) for part in parts]
        self._keep_up(model, step, num_passes - len(parts))
        return torch.stack([torch.zeros((), device=self._device), *losses]).sum()

    def _pass(self, model: Any, part: Batch, weight: float) -> Tensor:
        with _noticing_no_room(part):
            loss = self._loss.compute(model, self._move(part)) * weight
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach().float()  # as that of a process that has none

    def _compute_loss(self, model: Any, parts: Sequence[Batch]) -> tuple[float, int]:
        num_passes = find_greatest(len(parts)) if self._is_sharded else len(parts)
        total, num_targets = 0.0, 0
        for part in parts:
            with _noticing_no_room(part):
                loss = float(model(**self._move(part)).loss)
            count = int(find_targets(part["labels"]).ne(IGNORED).sum())
            if count:  # the mean over none is no number
                total, num_targets = total + loss * count, num_targets + count
        for _ in range(num_passes - len(parts)):
            model(**self._move(parts[0]))  # the others still go through the model
        return total, num_targets

    def _move(self, part: Batch) -> Batch:
        return {name: values.to(self._device, non_blocking=True) for name, values in part.items()}

    def _keep_up(self, model: Any, step: Step, num_passes: int) -> None:
        """Go through the model as often as the others still do, and leave the random numbers as they were."""
        randomness = _get_randomness(self._device)
        for _ in range(num_passes):
            assert step.stand_in is not None
            self._pass(model, step.stand_in, 0.0)
            _set_randomness(self._device, randomness)

    def _lower_limit(self, size: _Size) -> None:
        limit = size.num_tokens // 2
        if self._is_sharded and size.num_rows > 1:
            raise OutOfMemoryError(
                f"{size.num_tokens:,} tokens at once do not fit into the memory of {self._device}; with train.fsdp a "
                f"step cannot begin again. Set train.max_micro_batch_tokens to {limit} or less; the effective batch "
                "size stays.",
                limit,
            )
        if size.num_rows == 1:
            raise TrainingError(
                f"a single example of {size.num_tokens:,} tokens does not fit into the memory of {self._device}. "
                "Lower tokenize.max_length, train an adapter with model.lora, or choose a smaller base model."
            )
        self.max_tokens = limit
        self._on_limit(limit)
        give_back_memory()


@contextmanager
def _noticing_no_room(part: Batch) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _NoRoomError(part) from None


class _Size(NamedTuple):
    num_rows: int
    num_tokens: int


class _NoRoomError(Exception):
    """A part of this size did not fit."""

    def __init__(self, part: Batch) -> None:
        super().__init__()
        num_rows, longest = part["input_ids"].shape
        self.size = _Size(num_rows, num_rows * longest)


def split_batch(batch: Batch, max_tokens: int | None) -> Iterator[Batch]:
    """Cut a micro-batch in parts of at most so many tokens, padding included; at least a row each.

    Args:
        batch: Tensors of shape (num_rows, longest) or (num_rows,), padded on the right, in which `attention_mask` is 1
            where a token is.
        max_tokens: None: do not cut.

    Yields:
        The parts, each padded to its own longest row.
    """
    num_rows, longest = batch["input_ids"].shape
    if max_tokens is None or num_rows * longest <= max_tokens:
        yield batch
        return
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    start = 0
    while start < num_rows:
        stop, widest = start + 1, lengths[start]
        while stop < num_rows and max(widest, lengths[stop]) * (stop + 1 - start) <= max_tokens:
            widest = max(widest, lengths[stop])
            stop += 1
        yield {
            name: values[start:stop, :widest] if values.ndim > 1 else values[start:stop]
            for name, values in batch.items()
        }
        start = stop


def _get_randomness(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_randomness(device: torch.device, states: tuple[Tensor, Tensor | None]) -> None:
    cpu, cuda = states
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
