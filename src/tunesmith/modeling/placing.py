"""Where a model computes: on the accelerator as far as its memory goes, else on the CPU.

What was trained in 4 bits, or shared out among GPUs, is judged and served whole and in full precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tunesmith.errors import TunesmithError
from tunesmith.modeling.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    import numpy as np
    import torch

log = logging.getLogger(__name__)

Numbers: TypeAlias = "np.ndarray[Any, Any]"
Result = TypeVar("Result")


def find_device() -> torch.device:
    """The accelerator of this machine, else the CPU."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def place(model: Any) -> None:
    """Move a model to the accelerator; where it does not fit, it stays on the CPU, and the log says so."""
    device = find_device()
    try:
        model.to(device)
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    take_back(model)
    log.warning("the model does not fit into the memory of %s, and computes on the CPU", device)


@contextmanager
def placed(model: Any) -> Iterator[None]:
    """A model on the accelerator as long as the block lasts; the process may have nothing to do there for days."""
    place(model)
    try:
        yield
    finally:
        take_back(model)


def take_back(model: Any) -> None:
    """Move a model to the CPU, and give back the memory that it had."""
    model.to("cpu")
    give_back_memory()


def give_back_memory() -> None:
    """Let other processes have what torch holds on a GPU and does not use."""
    import torch

    torch.cuda.empty_cache()  # nothing where there is no GPU


def compute_in_parts(model: Any, rows: Numbers, compute: Callable[[Numbers], Result]) -> list[Result]:
    """What a model makes of some rows: of all at once, or of fewer and fewer where there is no memory for that.

    Args:
        model: It goes to the CPU where the accelerator has no room for a single row.
        rows: The numbers of the rows, at least one.
        compute: A pass over some of the rows, on the model's own device.

    Returns:
        The result of each part, in the order of the rows.

    Raises:
        TunesmithError: There is no room for a single row on the CPU.
    """
    try:
        return [compute(rows)]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: the error holds on to what the pass has computed.
    give_back_memory()
    if len(rows) > 1:
        half = len(rows) // 2
        return [part for some in (rows[:half], rows[half:]) for part in compute_in_parts(model, some, compute)]
    if model.device.type == "cpu":
        raise TunesmithError(
            "the machine has no memory for a pass over a single example. Lower tokenize.max_length, choose a smaller "
            "base model, or end what else runs here."
        )
    log.warning("a single example does not fit into the memory of %s; the model computes on the CPU", model.device)
    take_back(model)
    return [compute(rows)]
