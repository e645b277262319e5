from __future__ import annotations

import pytest
import torch

from tunesmith.training import precision


@pytest.mark.parametrize(
    ("flags", "chosen"), [("fpu avx2 avx512f", "fp32"), ("fpu avx512_bf16", "bf16"), ("amx_bf16 amx_tile", "bf16")]
)
def test_auto_is_bf16_where_the_cpu_multiplies_it_itself(flags, chosen, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "_CPUINFO", cpuinfo)
    assert precision.choose_precision("auto", torch.device("cpu")) == chosen


def test_what_is_asked_for_is_done():
    assert precision.choose_precision("bf16", torch.device("cpu")) == "bf16"
    assert precision.choose_precision("fp32", torch.device("cpu")) == "fp32"
