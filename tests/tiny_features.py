"""Features small enough to train on in a second, as the encode stage would have written them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.features import files
from tunesmith.store.ref import Ref

NUM_EXAMPLES = {"train": 58, "validation": 12, "test": 12}


def write_features(folder: Path, base: Path, labels: tuple[str, ...]) -> Ref:
    random = np.random.default_rng(0)
    for split, count in NUM_EXAMPLES.items():
        rows = [random.integers(5, 60, random.integers(3, 20)).astype(np.int32) for _ in range(count)]
        columns = {"input_ids": pa.array(rows, pa.list_(pa.int32()))}
        if labels:
            columns["labels"] = pa.array([int(row[0] > 30) for row in rows], pa.int64())
        columns["row_id"] = pa.array([f"{split}-{number}" for number in range(count)])
        table = pa.table(columns)
        files.write_features(folder / f"{split}.arrow", table)
        files.write_index(folder, split, [files.FeaturesFile(file=f"{split}.arrow", num_examples=count)])
    shutil.copytree(base, folder / "tokenizer", ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    facts = {
        "num_examples": NUM_EXAMPLES,
        "labels": list(labels),
        "pad_token_id": 0,
        "max_length": 64,
        "on_overflow": "truncate",
        "stride": 0,
    }
    return Ref(kind="encode", key=f"features-{len(labels)}", uri=str(folder), facts=facts)
