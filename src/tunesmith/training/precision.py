"""In which precision a device computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tunesmith.errors import CallError

Precision = Literal["fp32", "bf16"]

_BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Where the CPU multiplies bfloat16 itself, at twice the speed; elsewhere it is emulated, slower than fp32."""
_CPUINFO = Path("/proc/cpuinfo")


def choose_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Settle `auto`: bf16 where the device is good at it, else fp32.

    Raises:
        CallError: bf16 was asked for, and the device cannot compute in it.
    """
    if asked == "auto":
        return "bf16" if _is_good_at_bf16(device) else "fp32"
    if asked == "bf16" and not _is_good_at_bf16(device) and _is_known(device):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU of this machine"
        raise CallError(
            f"train.precision: {name} does not compute in bf16; it would be emulated, slower than fp32. "
            "Set train.precision to fp32, or to auto, which takes bf16 where a device is good at it."
        )
    return asked


def allow_tf32(precision: Precision, device: torch.device) -> None:
    """Where a GPU computes in bf16, the products that are left in fp32 need no more than TF32's 10 bits either."""
    if device.type == "cuda" and precision == "bf16":
        torch.set_float32_matmul_precision("high")


def _is_good_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(_BF16_CPU_FLAGS & _cpu_flags(_CPUINFO))


def _is_known(device: torch.device) -> bool:
    return device.type == "cuda" or (device.type == "cpu" and _CPUINFO.exists())


def _cpu_flags(cpuinfo: Path) -> set[str]:
    """What Linux says that the CPU can do; nothing elsewhere."""
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()
