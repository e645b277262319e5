"""A story for the HTML report and the model card, of predictions that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from made_predictions import EXAMPLES
from split_rows import write_splits
from tunesmith.data.chunked import ChunkedRows
from tunesmith.evaluation.case import Baseline, Case, Champion, Contender
from tunesmith.evaluation.error_analysis import analyze_errors
from tunesmith.evaluation.gate import make_decision
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.report.story import Story
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

LABELS = ("bad", "good", "mixed")
METRICS = {"accuracy": 0.75, "f1_macro": 0.7, "log_loss": 1.2}


def predict(truth: np.ndarray, skill: float, labels: tuple[str, ...], seed: int) -> pa.Table:
    """Predictions that are right about as often as the skill says."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(truth), len(labels)))
    logits[np.arange(len(truth)), truth] += skill * 3
    best, values = logits.argmax(axis=1), np.exp(logits)
    return pa.table(
        {
            "row_id": [f"{row:016x}" for row in range(len(truth))],
            "label": [labels[number] for number in truth],
            "prediction": [labels[number] for number in best],
            "probability": values.max(axis=1) / values.sum(axis=1),
            "logits": pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32())),
        }
    )


def tell_story(
    folder: Path, *, num_rows: int = 200, text: str = "a film", labels: tuple[str, ...] = LABELS, **changes: Any
) -> Story:
    """A candidate against a champion.

    Args:
        folder: Where the rows are written.
        num_rows: Test rows.
        text: What each row's text begins with.
        labels: The label set.
        changes: What of the story is different.
    """
    truth = np.arange(num_rows) % len(labels)
    ours, theirs = predict(truth, 0.9, labels, seed=1), predict(truth, 0.6, labels, seed=2)
    splits = Ref(kind="split", key="1" * 32, uri=str(folder / "splits"), facts={
        "num_rows": {"train": 800, "validation": 100, "test": num_rows}, "left_out": {"too old": 4},
        "leakage": {
            "is_checked": True, "threshold": 0.8, "between": [{"num_into": 3, "into": "test", "from": "train"}],
        },
    })  # fmt: skip
    rows = pa.table({"row_id": ours["row_id"], "review": [f"{text} {row}" for row in range(num_rows)]})
    write_splits(splits, {"test": rows}, FolderStore(folder / "store").chunks)
    case = Case(
        report="r", examples=EXAMPLES, labels=labels, primary_metric="accuracy", greater_is_better=True,
        gate=GateConfig(), candidate=Contender(key="c"), champion=Champion(version=2, key="d"),
        baseline=Baseline(name=f"majority class ({labels[0]})"),
    )  # fmt: skip
    decision = make_decision(case, ours, theirs, ours.select(["row_id"]))
    report = {
        "metrics": METRICS, "primary_metric": "accuracy", "num_examples": num_rows,
        "intervals": {name: {"low": value - 0.05, "high": value + 0.05} for name, value in METRICS.items()},
        "baseline": {"name": f"majority class ({labels[0]})", "metrics": {"accuracy": 0.4, "f1_macro": 0.2}},
        "slices": [
            {
                "name": "genre: drama", "num_examples": 120, "metrics": {"accuracy": 0.8},
                "intervals": {"accuracy": {"low": 0.7, "high": 0.88}},
            },
            {"name": "genre: war", "num_examples": 7, "metrics": {}, "intervals": {}},
        ],
    }  # fmt: skip
    told: dict[str, Any] = {
        "name": "reviews",
        "snapshot": Ref(kind="snapshot", key="0" * 32, uri="", facts={
            "digest": "ab" * 32, "num_rows": 1000, "dropped": {"drop_null: text": 7}, "quarantine": {"num_rows": 2},
        }),
        "splits": splits,
        "candidate": Ref(kind="train", key="2" * 32, uri="", facts={
            "num_steps": 1234, "num_epochs": 1, "examples_per_second": 88.1,
        }),
        "report": Ref(kind="evaluate", key="3" * 32, uri="", facts=report),
        "decision": Ref(kind="decide", key="4" * 32, uri="", facts=json.loads(decision.model_dump_json())),
        "exported": Ref(kind="export", key="5" * 32, uri="", facts={"formats": {}, "files": {"model": "6" * 32}}),
        "base": "org/tiny-model",
        "recipe_text": "name: reviews\n",
        "command": "tunesmith run recipe.yaml",
        "git_commit": "c0ffee",
        "version": {
            "model_name": "reviews", "version": 3, "mlflow_run_id": "0123abcd", "model_uri": "models:/reviews/3",
            "experiment": "reviews",
        },
        "metric_rows": [
            *({"step": step, "epoch": step / 300, "metrics": {"train/loss": 1 + 1 / step}} for step in range(1, 301)),
            {"step": 300, "epoch": 1.0, "metrics": {"validation/loss": 1.1}},
        ],
        "errors": analyze_errors(ours, theirs, EXAMPLES, labels, ChunkedRows.open(splits.folder, "test")),
    }  # fmt: skip
    return Story(**{**told, **changes})
