"""What all the rest takes from a training of five minutes: python -m tests.benchmarks.around [EPOCHS].

`tunesmith run` of the movie reviews, with Prefect and MLflow. What a checkpoint costs is measured in pairs of trainings
(`checkpoints`), as most of it goes on beside the steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.checkpoints import USUAL_EVERY, measure_checkpoint
from tests.benchmarks.training import lay_out_demo

NUM_EPOCHS = 8
"""Of 254 steps each: five minutes at 215 examples a second."""


def bench_around(num_epochs: int = NUM_EPOCHS) -> None:
    """Print the seconds of each part around the steps, and the share of all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        recipe = lay_out_demo(Path(scratch))
        _run(recipe, ["train.max_steps=1"])  # makes the databases of Prefect and MLflow, which takes five seconds
        wall, summary = _run(recipe, [f"train.num_epochs={num_epochs}", "train.max_steps=null"])
    took = {stage["name"]: stage["seconds"] for stage in summary["stages"]}
    training = summary["num_rows"]["train"] * num_epochs / summary["examples_per_second"]
    costs, _ = measure_checkpoint()
    num_checkpoints = (summary["num_steps"] - 1) // USUAL_EVERY
    parts = {
        "starting the training process, loading, the result": took["train"] - training,
        f"{num_checkpoints} checkpoints": num_checkpoints * median(costs),
        "registering in MLflow": took["register"],
        "the command line, Prefect and MLflow around the stages": wall - sum(took.values()),
    }
    steps = training - num_checkpoints * median(costs)
    print(f"{summary['num_steps']:,} steps and {num_epochs} validations: {steps:.1f} s")
    for name, seconds in parts.items():
        print(f"  {name}: {seconds:.1f} s, {seconds / steps:.1%}")
    print(f"  together: {sum(parts.values()):.1f} s, {sum(parts.values()) / steps:.1%}; ", end="")
    print(f"one checkpoint {median(costs):.2f} s ({costs[0]:.2f} to {costs[-1]:.2f}, {len(costs)} pairs)")


def _run(recipe: Path, settings: list[str]) -> tuple[float, dict[str, Any]]:
    """Run a recipe; gives the seconds and the summary."""
    command = [str(Path(sys.executable).parent / "tunesmith"), "run", str(recipe), "--json"]
    command += [f"--set={setting}" for setting in settings]
    environ = {**os.environ, "TUNESMITH_HOME": str(recipe.parent / "home")}
    start = time.perf_counter()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start, json.loads(done.stdout)


if __name__ == "__main__":
    bench_around(*map(int, sys.argv[1:]))
