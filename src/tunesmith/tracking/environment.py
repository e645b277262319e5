"""What MLflow reads from the environment."""

from __future__ import annotations

from collections.abc import MutableMapping

MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""Settings that MLflow reads from the environment and from nowhere else.

Its own defaults report home, draw progress bars, print on stdout, and wait 247 seconds for a server that is away, or
16 minutes for one that hangs. Whoever calls us tries again later.
"""


def fill_environment(environ: MutableMapping[str, str]) -> None:
    """Set what the user left open; for the edge to call, before MLflow is asked for anything."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        environ.setdefault(name, value)
