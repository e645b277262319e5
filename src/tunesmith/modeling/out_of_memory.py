"""How it is told that a device, or the CPU, had no room."""

from __future__ import annotations

import re

_TOLD = re.compile(
    # torch's own allocators, CUDA's, NCCL's and bitsandbytes'
    r"out of memory|OutOfMemoryError|can't allocate memory|\bMemoryError|\bbad_alloc"
    # the libraries that take their memory beside torch's
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED.*cublasCreate"
    r"|CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_\w*ALLOCATION_FAILED",
    re.IGNORECASE,
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that there was no room."""
    return tells_of_no_room(f"{type(error).__name__}: {error}")


def tells_of_no_room(line: str) -> bool:
    """Whether a line that was printed says so."""
    return _TOLD.search(line) is not None
