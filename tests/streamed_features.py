"""A stream that is small enough to train on in a second, taken through the stages up to the features."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from killable_training import CLASSIFICATION
from tunesmith.data import spans
from tunesmith.data.fetch import fetch
from tunesmith.data.snapshot import snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.data.split import split
from tunesmith.data.split_config import SplitConfig
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.training.train import StreamInput

LONG_STREAM = {"max_steps": 145, "validation_steps": 29}
"""As long as `killable_training.LONG`, with as many validations; 2 examples a step, and 100 make a group."""

CONTRACT = {
    "columns": {"text": {"type": "text", "max_length": 300}, "label": {"type": "text"}},
    "max_quarantined_fraction": 0.1,
}


@dataclass(frozen=True)
class StreamedFeatures:
    """The features of a stream's sample, and the stream."""

    features: Ref
    stream: StreamInput


def write_rows(path, num_rows, seed=0):
    """Texts of some of 60 words, whose label follows from the first; every 50th is longer than the contract allows."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(num_rows):
            words = [f"w{rng.randrange(60)}" for _ in range(200 if number % 50 == 49 else rng.randrange(3, 20))]
            label = "good" if int(words[0][1:]) >= 30 else "bad"
            file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")


def stream_features(
    folder, base, monkeypatch, *, num_rows=400, sample_rows=120, transforms=(), contract=CONTRACT, **tokenize
):
    """The stages from fetch to encode, on spans of 2 KB."""
    monkeypatch.setattr(spans, "SPAN_BYTES", 2048)
    store = FolderStore(folder / "data-store")
    for number in range(2):
        write_rows(folder / f"rows-{number}.jsonl", num_rows // 2, seed=number)
    section = {
        "sources": [{"files": ["rows-*.jsonl"]}],
        "streaming": {"shuffle_buffer": 40, "sample_rows": sample_rows},
        "contract": contract,
        "transforms": [*transforms],
    }
    data = DataConfig.model_validate_json(json.dumps(section), context={"folder": folder})
    config = SplitConfig()
    fetched = fetch(data, store)
    rows = snapshot(fetched, data, CLASSIFICATION, store)
    splits = split(rows, config, CLASSIFICATION, data.weights, store)
    features = encode(splits, CLASSIFICATION, ModelConfig(base=str(base)), TokenizeConfig(**tokenize), store)
    return StreamedFeatures(features, StreamInput(rows, fetched, data, config))
