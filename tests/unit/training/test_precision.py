from __future__ import annotations

import pytest
import torch

from tunesmith.errors import CallError
from tunesmith.training import precision


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        ("flags\t\t: fpu avx2 avx512f", "fp32"),
        ("flags\t\t: fpu avx512_bf16", "bf16"),
        ("flags\t\t: amx_bf16 amx_tile", "bf16"),
        ("Features\t: fp asimd", "fp32"),
        ("Features\t: fp asimd bf16", "bf16"),
    ],
)
def test_bf16_is_for_cpus_that_multiply_it_themselves(line, chosen, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(precision, "_CPUINFO", cpuinfo)
    cpu = torch.device("cpu")
    assert precision.choose_precision("auto", cpu) == chosen
    assert precision.choose_precision("fp32", cpu) == "fp32"
    if chosen == "bf16":
        assert precision.choose_precision("bf16", cpu) == "bf16"
    else:
        with pytest.raises(CallError, match=r"does not compute in bf16.*Set train.precision to fp32, or to auto"):
            precision.choose_precision("bf16", cpu)


def test_where_nothing_is_known_of_the_cpu_bf16_is_done_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "nowhere")
    assert precision.choose_precision("bf16", torch.device("cpu")) == "bf16"
    assert precision.choose_precision("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(
    ("chosen", "device", "expected"),
    [("bf16", "cuda", "high"), ("fp32", "cuda", "highest"), ("bf16", "cpu", "highest")],
)
def test_tf32_is_used_on_a_gpu_that_computes_in_bf16_anyway(chosen, device, expected):
    before = torch.get_float32_matmul_precision()
    try:
        precision.allow_tf32(chosen, torch.device(device))
        assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)
