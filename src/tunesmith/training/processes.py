"""The processes that train together: each has its share of a step, and what concerns all of them they decide together.

Every function is one that all of them call, in the same order; a process that trains alone talks to nobody. Numbers on
the CPU go through gloo on every machine, so that what is agreed on does not wait for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from tunesmith.errors import CallError, Preempted
from tunesmith.training.job import Job

TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others. One that ends is noticed by the parent at once; this is for one that hangs,
and longer than a checkpoint takes to be written."""

BUCKET_BYTES = 32 << 20
"""Gradients are sent in parcels of about this size: many small ones would each wait for the answer."""

WARM_UP_BYTES = 4 << 10
"""A small parcel."""

Item = TypeVar("Item")


@contextmanager
def join(job: Job, rank: int) -> Iterator[None]:
    """Train with the others as long as the block lasts.

    Args:
        job: Says how many processes there are.
        rank: Which of them this is, from 0.

    Raises:
        CallError: There are more processes than GPUs, or they could not talk to each other.
    """
    num_processes = job.train.num_processes
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    check_devices(num_processes, "cpu" if accelerator is None else accelerator.type, torch.cuda.device_count())
    if num_processes == 1:
        yield
        return
    backend = "gloo" if accelerator is None else "cpu:gloo,cuda:nccl"
    if accelerator is not None:
        torch.cuda.set_device(rank)
    store = dist.FileStore(str(job.rendezvous), num_processes)  # type: ignore[attr-defined]  # exported without saying so
    dist.init_process_group(backend, store=store, rank=rank, world_size=num_processes, timeout=TIMEOUT)
    if accelerator is not None:
        _warm_up(torch.device("cuda", rank))
    has_ended_well = False
    try:
        yield
        has_ended_well = True
    except Preempted:
        has_ended_well = True
        raise
    finally:
        # After an error, NCCL would wait for the others. Gloo does not, and would abort the process at its end.
        if has_ended_well or backend == "gloo":
            dist.destroy_process_group()


def _warm_up(device: torch.device) -> None:
    """Let NCCL take its memory now: it does so when it first sends, and later torch has taken the whole card."""
    for num_bytes in (WARM_UP_BYTES, BUCKET_BYTES):  # small parcels go another way than large ones
        dist.all_reduce(torch.zeros(num_bytes // 4, device=device))
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()


def check_devices(num_processes: int, device_type: str, num_gpus: int) -> None:
    """Refuse more processes than GPUs; where there is no GPU, they share the cores.

    Args:
        num_processes: How many processes are to train.
        device_type: What they would train on.
        num_gpus: How many CUDA devices there are.

    Raises:
        CallError: There are too many, or what they are on has no way to add up gradients.
    """
    if num_processes > 1 and device_type not in ("cpu", "cuda"):
        raise CallError(
            f"train.num_processes is {num_processes}, but processes train together on CUDA devices or on a CPU, and "
            f"this machine has {device_type}. Set train.num_processes to 1. With train.gradient_accumulation_steps the "
            "effective batch size stays."
        )
    if 0 < num_gpus < num_processes:
        there_are = "there is 1 GPU" if num_gpus == 1 else f"there are {num_gpus} GPUs"
        raise CallError(
            f"train.num_processes is {num_processes}, but {there_are} that this process can see, and each needs one of "
            f"its own. Set train.num_processes to {num_gpus} or less, or look at CUDA_VISIBLE_DEVICES. With "
            "train.gradient_accumulation_steps the effective batch size stays."
        )


def find_rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(items: Sequence[Item]) -> Sequence[Item]:
    """What this process does of a list of which each has the whole: every so many-th item, from its rank on."""
    return items[find_rank() :: count_processes()]


def add_up(values: Tensor) -> Tensor:
    """The sum over the processes, element by element."""
    if not dist.is_initialized():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def is_true_anywhere(flag: bool) -> bool:
    """Whether a flag is set in any of the processes: the same answer in each."""
    return bool(add_up(torch.tensor(int(flag))))


def find_least(number: int) -> int:
    """The lowest of the numbers that the processes have."""
    if not dist.is_initialized():
        return number
    least = torch.tensor(number)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def find_greatest(number: int) -> int:
    """The highest of the numbers that the processes have."""
    return -find_least(-number)


def wait_for_all() -> None:
    """Go on when every process has come to this point."""
    add_up(torch.zeros(()))


def add_up_gradients(parameters: Sequence[Tensor]) -> None:
    """Put the sum over the processes into the gradients; one that no process has stays away.

    After the last backward pass, and not in it as DDP does: so what runs out of memory can be done again without the
    others. And the sums do not depend on the order in which DDP finds gradients ready in the first step, after which it
    packs them anew: a continuation would add up in another order than the training did.
    """
    if not dist.is_initialized():
        return
    num_found = add_up(torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32))
    found = [parameter for parameter, number in zip(parameters, num_found.tolist(), strict=True) if number]
    for bucket in _cut(found):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat, [p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def find_seed(seed: int) -> int:
    """The seed of this process: the first one has the recipe's, and no two drop out the same elements."""
    if find_rank() == 0:
        return seed
    return int(np.random.SeedSequence([seed, find_rank()]).generate_state(1)[0])


def _cut(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket, num_bytes = list[Tensor](), 0
    for parameter in parameters:
        if bucket and (num_bytes >= BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(parameter)
        num_bytes += parameter.numel() * parameter.element_size()
    if bucket:
        yield bucket
