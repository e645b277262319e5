"""Run every benchmark and print a line for each: python -m tests.benchmarks [NUM_ROWS]."""

import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa

from benchmarks.appending import bench_appending
from benchmarks.predicting import bench_predicting
from benchmarks.tokenizing import bench_tokenizing
from benchmarks.training import bench_training
from projects import review_rows

NUM_TOKENIZED = 20_000
NUM_APPENDED_TO = 1_000_000


def make_table(num_rows: int, *, is_pair: bool) -> pa.Table:
    """Reviews, or pairs of them."""
    rows = [{"row_id": f"{number:016x}", **row} for number, row in enumerate(review_rows(num_rows))]
    table = pa.Table.from_pylist(rows)
    return table.append_column("other", table["text"].take(pa.array(range(num_rows)[::-1]))) if is_pair else table


if __name__ == "__main__":
    print(f"python {platform.python_version()}, {platform.machine()}")
    for is_pair in (False, True):
        for comparison in bench_tokenizing(make_table(NUM_TOKENIZED, is_pair=is_pair)):
            print(comparison, flush=True)
    bench_appending(int(sys.argv[1]) if len(sys.argv) > 1 else NUM_APPENDED_TO)
    bench_training(None, 1.0, quality=False)
    bench_predicting()
