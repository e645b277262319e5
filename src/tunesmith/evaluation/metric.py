"""The metrics by name.

`evaluate.load(<folder>)` copies a module into a cache in the user's home and imports the copy, which needs a home that
can be written and a lock between processes. Ours lie in the package already, so they are imported from there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import evaluate

METRICS_FOLDER = Path(__file__).parent / "metrics"
METRICS_PACKAGE = "tunesmith.evaluation.metrics"


def load_metric(name: str) -> evaluate.EvaluationModule:
    """The `evaluate.Metric` of a name, with no network and no cache folder.

    Args:
        name: One of `metric_names()`.

    Raises:
        ValueError: There is no such metric.

    Example:
        >>> load_metric("accuracy").compute(predictions=["a", "b"], references=["a", "a"])
        {'accuracy': 0.5}
    """
    if name not in metric_names():
        raise ValueError(f"{name!r} is not a metric; there are {', '.join(metric_names())}")
    import evaluate.loading

    metric = evaluate.loading.import_main_class(metric_module(name))
    with tempfile.TemporaryDirectory(prefix="tunesmith-metric-") as folder:  # made by the constructor, then never used
        return metric(keep_in_memory=True, cache_dir=folder)


def metric_names() -> tuple[str, ...]:
    """The names of all metrics, sorted."""
    return tuple(sorted(path.stem for path in METRICS_FOLDER.glob("*/*.py") if path.stem == path.parent.name))


def metric_module(name: str) -> str:
    """The module of a metric: part of the code identity of whatever is measured with it."""
    return f"{METRICS_PACKAGE}.{name}.{name}"
