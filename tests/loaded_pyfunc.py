"""A model as `mlflow.pyfunc` loads it."""

from __future__ import annotations

import warnings
from typing import Any


def load_pyfunc(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, at its import
        import mlflow.pyfunc

    return mlflow.pyfunc.load_model(uri)
