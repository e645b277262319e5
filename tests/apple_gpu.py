"""Tensors as they are on an Apple GPU, which has no numbers of 64 bits behind the point."""

from __future__ import annotations

import torch


class AppleTensor(torch.Tensor):
    """On the CPU, but as if on MPS: what would be in fp64 raises, until `cpu` was called."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        found = super().__torch_function__(func, types, args, kwargs)
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype.")
        return found
