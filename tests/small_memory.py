"""A device with little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def run_out_beyond(most_rows: int) -> Callable[..., None]:
    """A forward hook, with the named arguments: there is no room for more rows at once."""

    def run_out(_module: Any, _args: Any, named: dict[str, torch.Tensor], _output: Any) -> None:
        if len(named["input_ids"]) > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return run_out
