"""What training costs: a plain loop, the plain Trainer and both engines, on the same features, in turn.

    python -m tests.benchmarks.training                      examples a second, on 800 movie reviews, three rounds
    python -m tests.benchmarks.training --quality            an epoch each, with accuracy, over three seeds; an hour
    python -m tests.benchmarks.training --recipe FILE ...    on the features of another recipe
    python -m tests.benchmarks.training --epochs 1.3 ...     with so many epochs for ours: what is faster may see more
    python -m tests.benchmarks.training --busy ...           beside a process that keeps one of the cores busy

Each training is a process of its own. The plain ones are what the tutorials show: batches of 8 in any order, padded to
the longest, fp32, AdamW with a rate that falls from 5e-5. Ours are what a recipe gets that asks for nothing but batches
of 32 and the rate 1e-4.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("plain loop", "plain Trainer", "our trainer", "our loop")
NUM_EXAMPLES, NUM_BUSY_EXAMPLES, NUM_ROUNDS = 800, 160, 3
PLAIN_BATCH, PLAIN_RATE = 8, 5e-5
PEAK_SIZE = 2048
"""Rows and columns of the matrices whose product is the measure of what the machine can do."""


def lay_out_demo(folder: Path) -> Path:
    """Write the demo's recipe and its data into a folder; gives the recipe."""
    from tunesmith.samples.movie_reviews import fetch_snippets

    shipped = ROOT / "deployments" / "recipes" / "movie_reviews"
    for name in ("recipe.yaml", "labels.py"):
        (folder / name).write_bytes((shipped / name).read_bytes())
    fetch_snippets(folder / "snippets.tsv")
    return folder / "recipe.yaml"


def encode_recipe(recipe: Any, store: Any) -> Any:
    """The features of a recipe."""
    from tunesmith.data.fetch import fetch
    from tunesmith.data.snapshot import snapshot
    from tunesmith.data.split import split
    from tunesmith.features.encode import encode

    rows = snapshot(fetch(recipe.data, store), recipe.data, recipe.examples, store)
    splits = split(rows, recipe.split, recipe.examples, recipe.data.weights, store)
    return encode(splits, recipe.examples, recipe.model, recipe.tokenize, store)


def train_plainly(recipe: Any, features: Any, num_examples: int, seed: int, *, with_trainer: bool) -> dict[str, Any]:
    """Train as the tutorials do; gives the seconds of the steps, and the model."""
    import datasets
    import torch
    from torch.utils.data import DataLoader
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        get_scheduler,
    )

    from tunesmith.features.files import read_split
    from tunesmith.modeling.base import find_base

    torch.manual_seed(seed)
    folder, labels = find_base(recipe.model).folder, features.facts["labels"]
    train = datasets.Dataset(read_split(features.folder, "train")).shuffle(seed=seed).select(range(num_examples))
    kept = ("input_ids", "token_type_ids", "labels")
    train = train.remove_columns([name for name in train.column_names if name not in kept])
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels), dtype=torch.float32)
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    start = time.perf_counter()
    if with_trainer:
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                scratch,
                num_train_epochs=1,
                per_device_train_batch_size=PLAIN_BATCH,
                learning_rate=PLAIN_RATE,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            Trainer(model, arguments, train_dataset=train, data_collator=collate).train()
        return {"seconds": time.perf_counter() - start, "model": model}
    batches = DataLoader(train, batch_size=PLAIN_BATCH, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PLAIN_RATE)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=len(batches))
    model.train()
    for batch in batches:
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {"seconds": time.perf_counter() - start, "model": model}


def train_ours(
    recipe: Any, features: Any, num_examples: int, epochs: float, seed: int, store: Any, engine: str
) -> dict[str, Any]:
    """Train with one of our engines; gives the seconds of the steps, and the model."""
    from tunesmith.modeling.base import find_base
    from tunesmith.modeling.load import load_trained
    from tunesmith.training.train import train

    size = recipe.train.per_device_train_batch_size
    num_steps, num_seen = math.ceil(epochs * num_examples / size), epochs * num_examples
    changes = {"engine": engine, "seed": seed, "num_epochs": math.ceil(epochs), "max_steps": num_steps}
    candidate = train(features, recipe.examples, recipe.model, recipe.train.model_copy(update=changes), store)
    base, labels = find_base(recipe.model).folder, tuple(features.facts["labels"])
    seconds = min(num_seen, candidate.facts["num_steps"] * size) / candidate.facts["examples_per_second"]
    return {"seconds": seconds, "model": load_trained(candidate.folder, base, recipe.examples, labels)}


def run_way(way: str, file: Path, home: Path, num_examples: int, epochs: float, seed: int) -> dict[str, Any]:
    """Train in one way here, ours for so many epochs, and judge the result on the test split."""
    from tunesmith.features.files import read_split
    from tunesmith.recipe import Recipe
    from tunesmith.store.folder import FolderStore

    recipe, store = Recipe.load(file), FolderStore(home / "store")
    features = encode_recipe(recipe, store)
    num_examples = min(num_examples, features.facts["num_examples"]["train"])
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "plain loop": lambda: train_plainly(recipe, features, num_examples, seed, with_trainer=False),
        "plain Trainer": lambda: train_plainly(recipe, features, num_examples, seed, with_trainer=True),
    }
    for engine in ("trainer", "loop"):
        aside = FolderStore(Path(tempfile.mkdtemp(dir=home)))
        runs[f"our {engine}"] = lambda engine=engine, aside=aside: train_ours(
            recipe, features, num_examples, epochs, seed, aside, engine
        )
    done = runs[way]()
    num_seen = num_examples * (epochs if way.startswith("our") else 1)
    accuracy = measure_accuracy(done["model"], read_split(features.folder, "test"), features.facts["pad_token_id"])
    lengths = read_split(features.folder, "train")["input_ids"].combine_chunks().value_lengths().to_numpy()
    body = sum(p.numel() for name, p in done["model"].named_parameters() if p.ndim == 2 and "embedding" not in name)
    return {
        "examples": num_seen,
        "seconds": done["seconds"],
        "accuracy": accuracy,
        "gflop": 6 * body * float(lengths.mean()) * num_seen / 1e9,
    }


def measure_accuracy(model: Any, test: Any, pad_token_id: int) -> float:
    """The share of examples that a classifier gets right."""
    import numpy as np

    from tunesmith.evaluation.scoring import score
    from tunesmith.kinds import text_classification

    summary = score(model, test, text_classification, pad_token_id, batch_size=64, title="judging")  # type: ignore[arg-type]
    return float(np.mean(summary["logits"].argmax(axis=1) == test["labels"].to_numpy()))


def measure_peak() -> tuple[str, float]:
    """GFLOP a second of a product of large matrices, in the precision that ours train in here, and its name."""
    import torch

    from tunesmith.training.precision import choose_precision

    precision = choose_precision("auto", torch.device("cpu"))
    left = torch.randn(PEAK_SIZE, PEAK_SIZE).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - start)
    return precision, 2 * PEAK_SIZE**3 / best / 1e9


def bench_training(file: Path | None, epochs: float, *, quality: bool, busy: bool = False) -> None:
    """Print examples a second of each way, against the plain loop, and the share of the machine's peak."""
    with tempfile.TemporaryDirectory() as scratch, _neighbour() if busy else nullcontext():
        home = Path(scratch)
        if file is None:
            file = lay_out_demo(home)
        num_examples = sys.maxsize if quality else NUM_BUSY_EXAMPLES if busy else NUM_EXAMPLES
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        peaks = []
        for seed in range(NUM_ROUNDS):
            precision, peak = measure_peak()
            peaks.append(peak)
            for way, runs in found.items():
                runs.append(_run(way, file, home, num_examples, epochs, seed))
        _print(found, precision, median(peaks), quality=quality)


@contextmanager
def _neighbour() -> Iterator[None]:
    """Another process that would like to have a core for itself."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def _run(way: str, file: Path, home: Path, num_examples: int, epochs: float, seed: int) -> dict[str, Any]:
    numbers = [str(num_examples), str(epochs), str(seed)]
    command = [sys.executable, "-m", "tests.benchmarks.training", "--way", way, str(file), str(home), *numbers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(found: dict[str, list[dict[str, Any]]], precision: str, peak: float, *, quality: bool) -> None:
    rounds = len(found[WAYS[0]])
    print(f"training, {found[WAYS[0]][0]['examples']:,} examples, {rounds} rounds; {precision} peak {peak:.0f} GFLOP/s")
    for way, runs in found.items():
        pairs = zip(found[WAYS[0]], runs, strict=True)
        ratios = sorted(
            (plain["seconds"] / plain["examples"]) / (run["seconds"] / run["examples"]) for plain, run in pairs
        )
        rate = median(run["examples"] / run["seconds"] for run in runs)
        share = median(run["gflop"] / run["seconds"] for run in runs) / peak
        line = f"  {way}: {rate:.1f} examples/s, {median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        line += f", {share:.0%} of the peak"
        accuracies = ", ".join(f"{run['accuracy']:.4f}" for run in runs)
        print(f"{line}, accuracy {accuracies}" if quality else line)
    if quality:
        _print_quality(found)


def _print_quality(found: dict[str, list[dict[str, Any]]]) -> None:
    """How long each way took to be as accurate as the plain loop, over all seeds together."""
    plain = found[WAYS[0]]
    aim, whole = fmean(run["accuracy"] for run in plain), sum(run["seconds"] for run in plain)
    print(f"to the mean accuracy of the plain loop, {aim:.4f}:")
    for way, runs in found.items():
        mean, seconds = fmean(run["accuracy"] for run in runs), sum(run["seconds"] for run in runs)
        ending = f"{whole / seconds:.2f}x as fast" if mean >= aim else "not reached"
        print(f"  {way}: mean accuracy {mean:.4f}, {ending}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        way, named, where, number, share, seed = sys.argv[2:]
        print(json.dumps(run_way(way, Path(named), Path(where), int(number), float(share), int(seed))))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--quality", action="store_true")
        parser.add_argument("--busy", action="store_true")
        parser.add_argument("--recipe", type=Path)
        parser.add_argument("--epochs", type=float, default=1.0)
        asked = parser.parse_args()
        bench_training(asked.recipe, asked.epochs, quality=asked.quality, busy=asked.busy)
