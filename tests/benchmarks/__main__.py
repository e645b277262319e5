"""Run every benchmark and print a line for each."""

import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pairs import compare
from projects import review_rows
from tiny_models import make_bert


def bench_tokenization(folder: Path, num_rows: int = 20_000) -> None:
    """Our encoding of Arrow columns against `datasets.map(batched=True)`."""
    import datasets
    import pyarrow as pa

    from tunesmith.kinds.tokens import tokenize
    from tunesmith.modeling.load import load_tokenizer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    rows = review_rows(num_rows)
    tokenizer = load_tokenizer(make_bert(folder, [word for row in rows[:1000] for word in row["text"].split()]))
    table = pa.Table.from_pylist(rows)
    dataset = datasets.Dataset(table)
    print(
        compare(
            f"tokenize {num_rows:,} rows, against datasets.map(batched=True)",
            lambda: tokenize(tokenizer, table["text"], None, 64),
            lambda: dataset.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=64), batched=True),
        )
    )


if __name__ == "__main__":
    print(f"python {platform.python_version()}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as scratch:
        bench_tokenization(Path(scratch) / "model")
