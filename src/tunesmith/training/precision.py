"""In which precision a device computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tunesmith.errors import CallError

Precision = Literal["fp32", "bf16"]

_BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Where the CPU multiplies bfloat16 itself, at twice the speed; elsewhere it is emulated, slower than fp32."""
_CPUINFO = Path("/proc/cpuinfo")


def choose_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Settle `auto`: bf16 where the device is good at it, else fp32.

    Raises:
        CallError: bf16 was asked for, and the device cannot compute in it.
    """
    if asked == "auto":
        return "bf16" if _is_good_at_bf16(device) else "fp32"
    if asked == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise CallError(f"train.precision: {name} cannot compute in bf16. Set train.precision to fp32 or auto.")
    return asked


def _is_good_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(_BF16_CPU_FLAGS & _cpu_flags(_CPUINFO))


def _cpu_flags(cpuinfo: Path) -> set[str]:
    """What Linux says that the CPU can do; nothing elsewhere."""
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()
