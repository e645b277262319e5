"""The references that the stages of a finished run return."""

from __future__ import annotations

from typing import Any

from tunesmith.store.ref import Ref

FACTS: dict[str, dict[str, Any]] = {
    "snapshot": {
        "num_rows": 90,
        "rows_in": 100,
        "dropped": {"drop_null: text": 7, "a | strange\n<reason>": 3},
        "steps": [
            {"step": "read", "rows_in": 100, "rows_out": 100, "dropped": {}},
            {"step": "drop_null", "rows_in": 100, "rows_out": 93, "dropped": {"drop_null: text": 7}},
        ],
        "quarantine": {"key": None, "num_rows": 0, "reasons": {}},
    },
    "split": {"num_rows": {"train": 72, "validation": 9, "test": 9}, "left_out": {}, "leakage": {}},
    "encode": {
        "num_truncated": {"train": 4, "validation": 0, "test": 0},
        "lost_row_fraction": {"train": 4 / 72, "validation": 0.0, "test": 0.0},
        "lost_token_fraction": {"train": 0.0125, "validation": 0.0, "test": 0.0},
        "num_tokens": {},
        "labels": ["no", "yes"],
    },
    "start": {"asked": "base", "start": None, "num_new_rows": 72, "num_old_rows": 0, "num_replayed_rows": 0},
    "train": {
        "num_steps": 1234,
        "num_epochs": 2,
        "stopped_early": False,
        "kept_step": None,
        "examples_per_second": 88.13,
        "train_loss": 0.25,
        "validation_loss": 0.5,
        "weights_sha256": "ab" * 32,
        "resumed_from_step": None,
    },
    "evaluate": {
        "metrics": {"accuracy": 0.85, "f1_macro": 0.84},
        "intervals": {"accuracy": {"low": 0.8, "high": 0.9}, "f1_macro": {"low": 0.79, "high": 0.89}},
        "headline_metrics": ["f1_macro", "accuracy", "roc_auc"],
        "baseline": {"name": "majority class (yes)", "metrics": {"accuracy": 0.5, "f1_macro": 0.3}},
        "primary_metric": "f1_macro",
        "greater_is_better": True,
        "num_examples": 9,
        "calibration": {
            "temperature": 1.5,
            "num_validation_examples": 8,
            "is_applied": True,
            "before": {"bins": [], "expected_calibration_error": 0.12},
            "after": {"bins": [], "expected_calibration_error": 0.03},
        },
        "slices": [
            {
                "name": "genre: drama",
                "num_examples": 5,
                "metrics": {"f1_macro": 0.8},
                "intervals": {"f1_macro": {"low": 0.5, "high": 0.9}},
            },
            {"name": "genre: war", "num_examples": 4, "metrics": {}, "intervals": {}},
        ],
    },
    "decide": {"verdict": "PROMOTE", "reasons": ["f1_macro 0.84 beats the baseline's 0.3", "there is no champion yet"]},
    "export": {
        "formats": {
            "safetensors": {
                "is_shipped": True,
                "reason": None,
                "size_bytes": 90_900_000,
                "num_examples": 9,
                "agreement": 1.0,
                "max_logit_difference": 1e-6,
                "largest_logit": 3.5,
                "num_logits": 18,
                "metric": "f1_macro",
                "metric_delta": 0.0,
                "interval": {"low": 0.0, "high": 0.0},
                "latency_seconds": {"1": 0.004, "32": 0.05},
                "num_tokens": 12,
                "num_threads": 2,
                "peak_memory_bytes": 95_000_000,
            }
        },
        "files": {},
    },
    "register": {
        "model_name": "snippets",
        "version": 3,
        "aliases": ["champion"],
        "mlflow_run_id": "0123abcd",
        "model_uri": "models:/snippets/3",
        "experiment": "snippets",
    },
}


STORE = "sqlite:////home/me/project/.tunesmith/mlflow.db"
"""MLflow's, of the run."""


def make_refs(**changes: Any) -> list[Ref]:
    refs = []
    for number, (kind, facts) in enumerate(FACTS.items()):
        is_cached = kind == "split"
        ref = Ref(kind=kind, key=f"{number:032x}", uri=f"/store/{kind}", facts={**facts, **changes.get(kind, {})})
        reason = "" if is_cached else f"train.seed: 0 -> {number}"
        refs.append(ref.model_copy(update={"is_cached": is_cached, "reason": reason, "seconds": 1.5}))
    return refs
