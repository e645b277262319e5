"""What libraries read from the environment, and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""MLflow's own defaults report home, draw progress bars, print on stdout, and wait 247 seconds for a server that is
away, or 16 minutes for one that hangs. Whoever calls us tries again later.
"""

KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""The C library keeps what a step frees for the next one: it would give it back, and every page come anew."""


SPIN_COUNT = "2000"
"""How often a thread of OpenMP looks whether the others are there, before it sleeps: some 0.1 ms.

By default 150 times as often. Where another process has one of the cores, a thread would keep the other one busy
waiting for a thread that finds no core: thousands of times a step.
"""


def fill_environment(environ: MutableMapping[str, str]) -> None:
    """Set what the user left open; for the edge to call, before MLflow and torch are imported."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        environ.setdefault(name, value)
    _share_cores(environ)


def compose_training_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a training process is started with; what the user has set stays."""
    composed = {**KEEP_MEMORY, **environ}
    _share_cores(composed)
    return composed


def _share_cores(environ: MutableMapping[str, str]) -> None:
    """Let the threads of torch give way on a machine that does other work, too."""
    if "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
