"""What processes do together, in two that train nothing: a tiny function of two numbers stands for the model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import torch
from torch import distributed as dist
from tunesmith.training.config import TrainConfig
from tunesmith.training.gradient import GradientSum
from tunesmith.training.loss import Loss
from tunesmith.training.prepared import Step
from tunesmith.training.processes import add_up_gradients, find_least, is_true_anywhere, share

rank, store, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
used, unused, sometimes = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused, self.sometimes = used, unused, sometimes

    def forward(self, input_ids, attention_mask, labels):
        if mode == "small" and rank == 1 and input_ids.numel() > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        weights = self.used if rank == 0 else self.used * self.sometimes
        values = (input_ids.double() @ weights[:, None]).squeeze(1) * labels
        return type("Output", (), {"loss": values.mean()})


def batch(first, rows):
    ids = torch.arange(first, first + 2 * rows).reshape(rows, 2)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.ones(rows, dtype=torch.long)}


batches = [batch(0, 4), batch(10, 5), batch(30, 2)] if mode != "one" else [batch(0, 4)]
limits = []
model, gradient = Model(), GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), None, limits.append)
loss = gradient.add(model, Step(share(batches), 11, 22, 22, 1.0))
print(json.dumps({
    "loss": float(loss),
    "used": used.grad.tolist(),
    "unused": unused.grad is None,
    "sometimes": None if sometimes.grad is None else sometimes.grad.tolist(),
    "limit": (gradient.agree_on_limit(), limits),
    "flags": [is_true_anywhere(rank == 1), is_true_anywhere(False)],
    "least": find_least(7 - rank),
}))
dist.destroy_process_group()
"""


def run(tmp_path, mode):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / mode), mode], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    found = [json.loads(process.communicate(timeout=240)[0]) for process in processes]
    assert found[0] == found[1]
    return found[0]


def test_the_gradient_is_that_of_all_processes_and_what_no_process_uses_has_none(tmp_path):
    found = run(tmp_path, "large")
    first, second = [sum(range(0, 8, 2)) + 30 + 32, sum(range(1, 9, 2)) + 31 + 33], [70, 75]
    assert found["used"] == pytest.approx([(first[0] + 70) / 11, (first[1] + 75) / 11])
    assert found["loss"] == pytest.approx(sum(first + second) / 11)
    assert found["unused"] is True
    assert found["sometimes"] == pytest.approx([70 / 11, 75 / 11])  # only the second process uses it
    assert (found["limit"], found["flags"], found["least"]) == ([None, []], [True, False], 6)


def test_a_process_without_a_micro_batch_takes_part(tmp_path):
    found = run(tmp_path, "one")
    assert found["used"] == pytest.approx([12 / 4, 16 / 4])
    assert found["loss"] == pytest.approx(28 / 4)
    assert found["sometimes"] is None


def test_where_one_process_runs_out_of_memory_all_have_the_same_gradient_and_later_the_same_limit(tmp_path):
    large, small = run(tmp_path, "large"), run(tmp_path, "small")
    assert large.pop("limit") == [None, []]
    assert small.pop("limit") == [5, [5]]  # of which both have told
    for name, value in large.items():
        assert small[name] == pytest.approx(value)
