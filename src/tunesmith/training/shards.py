"""FSDP: each process keeps a share of every weight, of its gradient and of what the optimizer has on it.

A layer's weights are put together when it computes, and taken apart behind it. So all processes go through the model
equally often, and in the same order; what one has less to do, it fills up with stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tunesmith.errors import ModelError
from tunesmith.training.processes import count_processes


def shard_model(model: Any, device: torch.device) -> None:
    """Leave of a model's weights only this process's share, on its device.

    Args:
        model: A model of transformers, or of peft around one; the same in every process.
        device: Of which kind the processes' devices are.

    Raises:
        ModelError: It has no layers that can be put together one after the other.
    """
    layers = _find_layers(model.get_base_model() if hasattr(model, "get_base_model") else model)
    mesh = init_device_mesh(device.type, (count_processes(),))
    for module in [*layers, model]:
        fully_shard(module, mesh=mesh)
        # The sum of the gradients, each of which is already a part of the mean; gloo knows no other way to say so.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def _find_layers(base: Any) -> list[nn.Module]:
    """What transformers says not to split; of a model of which it does not, the elements of the longest list."""
    names = base._no_split_modules or ()
    layers = [module for module in base.modules() if type(module).__name__ in names and module is not base]
    layers = layers or max(_find_lists(base.base_model), key=len, default=[])
    if not layers:
        raise ModelError(
            f"train.fsdp: a {base.config.model_type} model has no list of layers that could be put together one after "
            "the other, so that each process would hold all weights at once. Set it to false, or choose another base."
        )
    return layers


def _find_lists(module: nn.Module) -> Iterator[list[nn.Module]]:
    """The elements of each list in a module that is in no other list; one that stands there twice is one."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield [*dict.fromkeys(_flatten(child))]
        else:
            yield from _find_lists(child)


def _flatten(modules: nn.ModuleList) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.ModuleList):
            yield from _flatten(module)
        else:
            yield module


def is_sharded(model: Any) -> bool:
    """Whether the processes share a model's weights out among them."""
    return isinstance(model, FSDPModule)


@contextmanager
def sharded_again(model: Any) -> Iterator[None]:
    """Take a model's weights apart when the block ends: without a backward pass, the last ones stay together."""
    try:
        yield
    finally:
        if isinstance(model, FSDPModule):
            model.reshard()


def take_share(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def put_together(tensor: Tensor) -> Tensor:
    """A whole tensor; where it is sharded, all processes ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def optimizer_shares(optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimizer, as far as this process has it, in plain tensors."""
    state = optimizer.state_dict()
    shares = {
        index: {name: take_share(value) if isinstance(value, Tensor) else value for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": shares}


def load_optimizer_shares(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the state that `optimizer_shares` returned in this process."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shares = {
        index: {name: _like(parameters[index], value) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})


def _like(parameter: Tensor, share: Any) -> Any:
    """A share of something that is sharded as its parameter is; what is no tensor of that shape stays as it is."""
    if not isinstance(parameter, DTensor) or not isinstance(share, Tensor):
        return share
    if share.shape != parameter.to_local().shape:
        return share
    return DTensor.from_local(
        share.to(parameter.to_local().device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
