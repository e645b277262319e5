"""Where a model computes when the memory is short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.errors import TunesmithError
from tunesmith.modeling.out_of_memory import is_out_of_memory
from tunesmith.modeling.placing import compute_in_parts


class Model:
    """On a GPU with room for some rows at once; on the CPU there is room for others."""

    def __init__(self, **room: int) -> None:
        self.room, self.device, self.passes = room, torch.device("cuda"), list[tuple[str, int]]()

    def to(self, device: str) -> None:
        self.device = torch.device(device)

    def compute(self, rows: np.ndarray[Any, Any]) -> list[int]:
        self.passes.append((self.device.type, len(rows)))
        if len(rows) > self.room[self.device.type]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [int(row) for row in rows]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("room", [1, 2, 3, 8])
def test_rows_that_do_not_fit_together_are_computed_in_parts_that_do_and_in_their_order(size: int, room: int) -> None:
    model = Model(cuda=room, cpu=0)
    parts = compute_in_parts(model, np.arange(size) * 2, model.compute)
    assert [row for part in parts for row in part] == [*range(0, 2 * size, 2)]
    assert model.device.type == "cuda"


def test_where_not_a_single_row_fits_the_cpu_computes_it_and_those_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(cuda=0, cpu=8)
    parts = compute_in_parts(model, np.arange(4), model.compute)
    assert parts == [[0], [1], [2, 3]]
    assert model.passes == [("cuda", 4), ("cuda", 2), ("cuda", 1), ("cpu", 1), ("cpu", 1), ("cpu", 2)]
    assert [record.message for record in caplog.records] == [
        "a single example does not fit into the memory of cuda; the model computes on the CPU"
    ]


def test_a_machine_without_room_for_a_single_row_says_what_to_change() -> None:
    model = Model(cuda=0, cpu=0)
    model.to("cpu")
    with pytest.raises(TunesmithError, match=r"no memory for a pass over a single example. Lower tokenize.max_length"):
        compute_in_parts(model, np.arange(4), model.compute)


def test_any_other_error_is_not_taken_for_a_lack_of_memory() -> None:
    def fail(_rows: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        compute_in_parts(Model(), np.arange(4), fail)


@pytest.mark.parametrize(
    "told",
    [
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: tried to allocate 2 bytes",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "NCCL error: unhandled cuda error. Last error: Cuda failure 2 'out of memory'",
        "MPS backend out of memory (MPS allocated: 18.13 GiB, max allowed: 18.13 GiB)",
    ],
)
def test_what_says_that_there_was_no_room_is_recognised(told: str) -> None:
    assert is_out_of_memory(RuntimeError(told))
    assert is_out_of_memory(torch.AcceleratorError(told, 2))


@pytest.mark.parametrize(
    "told",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
        "CUDA error: device-side assert triggered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_other_errors_of_a_gpu_are_not(told: str) -> None:
    assert not is_out_of_memory(RuntimeError(told))


def test_torch_s_own_error_needs_no_words() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError())
