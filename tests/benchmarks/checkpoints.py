"""What a checkpoint takes from a training, beside its steps too: python -m tests.benchmarks.checkpoints.

Trainings of the same steps in turn, with a checkpoint every few steps and without; what the first take longer, shared
out among their checkpoints.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.training import encode_recipe, lay_out_demo

NUM_STEPS, EVERY, NUM_PAIRS = 64, 4, 8
USUAL_EVERY = 100


def measure_checkpoint(num_pairs: int = NUM_PAIRS) -> tuple[list[float], float]:
    """The seconds that a checkpoint costs, of each pair, the least first; and the seconds of a step."""
    from tunesmith.recipe import Recipe
    from tunesmith.store.folder import FolderStore
    from tunesmith.training.config import TrainConfig
    from tunesmith.training.train import train

    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        recipe = Recipe.load(lay_out_demo(home))
        features = encode_recipe(recipe, FolderStore(home / "store"))

        def train_once(every: int) -> float:
            config = TrainConfig(**{**dict(recipe.train), "max_steps": NUM_STEPS, "save_steps": every})
            store = FolderStore(Path(tempfile.mkdtemp(dir=home)))
            candidate = train(features, recipe.examples, recipe.model, config, store)
            return float(candidate.facts["training_seconds"])

        train_once(NUM_STEPS)
        pairs = [(train_once(EVERY), train_once(NUM_STEPS)) for _ in range(num_pairs)]
    num_more = NUM_STEPS // EVERY - 1
    return sorted((often - once) / num_more for often, once in pairs), median(once for _, once in pairs) / NUM_STEPS


def bench_checkpoints() -> None:
    """Print the seconds that a checkpoint costs, and their share of the steps between two, both with their spread."""
    costs, step = measure_checkpoint()
    share = [cost / (USUAL_EVERY * step) for cost in (median(costs), costs[0], costs[-1])]
    print(f"a checkpoint: {median(costs):.2f} s ({costs[0]:.2f} to {costs[-1]:.2f}, {len(costs)} pairs); ", end="")
    print(f"every {USUAL_EVERY} steps of {step:.3f} s: {share[0]:.1%} ({share[1]:.1%} to {share[2]:.1%})")


if __name__ == "__main__":
    bench_checkpoints()
