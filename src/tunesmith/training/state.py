"""What a checkpoint holds of the model, the optimizer and the schedule: the same files from both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.serialization import config

from tunesmith.training.processes import find_rank
from tunesmith.training.shards import is_sharded, load_optimizer_shares, optimizer_shares, take_share

WEIGHTS, OPTIMIZER, SCHEDULER = "weights-{}.safetensors", "optimizer-{}.pt", "scheduler.pt"
"""The first two are those of a process: of the first one alone, unless the model is sharded."""


def changing_tensors(model: Any) -> dict[str, Tensor]:
    """What training changes: the trainable weights, each once however often it is used, and the buffers."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: tensor.detach() for name, tensor in [*weights.items(), *model.named_buffers()]}


def save_state(folder: Path, model: Any, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Write what it falls to this process to save, into a folder that the others write to as well."""
    rank = find_rank()
    if rank == 0:
        torch.save(scheduler.state_dict(), folder / SCHEDULER)
    if rank == 0 or is_sharded(model):
        tensors = {name: take_share(tensor).contiguous() for name, tensor in changing_tensors(model).items()}
        save_file(tensors, folder / WEIGHTS.format(rank))
        # A checkpoint has hashes of its own. (The module gets its `patch` only when it is imported.)
        with config.patch({"save.compute_crc32": False}):  # type: ignore[attr-defined]
            torch.save(optimizer_shares(optimizer), folder / OPTIMIZER.format(rank))


def load_weights(folder: Path, model: Any) -> None:
    """Give a model the weights of a checkpoint."""
    saved = load_file(folder / WEIGHTS.format(_find_writer(model)))
    with torch.no_grad():
        for name, tensor in changing_tensors(model).items():
            take_share(tensor).copy_(saved[name])


def load_optimizer(folder: Path, model: Any, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Give an optimizer and a schedule the state that a checkpoint has of them."""
    path = folder / OPTIMIZER.format(_find_writer(model))
    # On the CPU first: `load_state_dict` moves each tensor to its parameter's device.
    load_optimizer_shares(optimizer, torch.load(path, map_location="cpu", weights_only=True))
    scheduler.load_state_dict(torch.load(folder / SCHEDULER, weights_only=True))


def _find_writer(model: Any) -> int:
    return find_rank() if is_sharded(model) else 0
