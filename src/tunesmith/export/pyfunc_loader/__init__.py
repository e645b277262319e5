"""What MLflow's pyfunc loads a model of Tunesmith with. A copy of this package lies in the model's folder, below code/.

It must never import tunesmith: the model answers where there is none. What it answers is what `tunesmith predict` does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .classifier import Classifier
from .generator import Generator

KINDS: dict[str, type[Classifier] | type[Generator]] = {
    "text-classification": Classifier,
    "text-generation": Generator,
}


def describe_columns(served: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The columns that a model reads, and those that it answers with, by name, with MLflow's name of their type.

    Args:
        served: What tunesmith.json says.

    Raises:
        KeyError: The kind of task is unknown here.
    """
    inputs, outputs = KINDS[served["examples"]["kind"]].describe_columns(served)
    return inputs, outputs


def _load_pyfunc(data_path: str) -> Classifier | Generator:
    """What MLflow calls."""
    folder = Path(data_path)
    served = json.loads((folder / "tunesmith.json").read_text(encoding="utf-8"))
    return KINDS[served["examples"]["kind"]](folder, served)
