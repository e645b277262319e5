"""The way to MLflow: one client per store, quiet, with errors that say what to do."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import TunesmithError
from tunesmith.store.disk import told_in_words
from tunesmith.store.keys import compute_key
from tunesmith.tracking.config import SQLITE, TrackingConfig

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PROBE_SECONDS = 5.0
"""How long a server may take to answer at all before it counts as away."""

SETTLE_SECONDS = (0.05, 0.5)
"""Pauses before a write that MLflow refused is tried again."""

GATEWAY_ERRORS = frozenset({502, 503, 504})
"""What a proxy says in the place of a server that is away."""


@contextmanager
def mlflow_client(tracking: TrackingConfig) -> Iterator[MlflowClient]:
    """A client for the store of `tracking`; what MLflow raises inside becomes a `TunesmithError`.

    Raises:
        FullDiskError: There is no room for what is written to it.
        TunesmithError: The store cannot be reached, or refuses what is asked of it.
    """
    _check_reachable(tracking)
    # MLflow configures its own loggers while it is imported, so they can be silenced only after that.
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    _quiet_loggers()
    try:
        with told_in_words(_find_folder(tracking)):
            yield _open(tracking)
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        raise TunesmithError(f"MLflow at {tracking.public_uri()}: {_first_line(error)}") from error


@contextmanager
def exclusive(tracking: TrackingConfig) -> Iterator[None]:
    """Let one process of this machine at a time pass.

    Not reentrant. The lock goes with the process that holds it, however that one ends.
    """
    with _find_lock(tracking).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _find_lock(tracking: TrackingConfig) -> Path:
    database = tracking.database()
    if database is None:
        name = compute_key({"tracking": tracking.public_uri(), "user": os.getuid()})
        return _find_folder(tracking) / f"tunesmith-{name}.lock"
    database.parent.mkdir(parents=True, exist_ok=True)
    return database.with_name(f"{database.name}.lock")


def _find_folder(tracking: TrackingConfig) -> Path:
    """Where this machine writes for MLflow: beside its database, or only what is on its way to a server."""
    database = tracking.database()
    return Path(tempfile.gettempdir()) if database is None else database.parent


def settle(write: Callable[[], object]) -> None:
    """Do a write that may be repeated, and repeat it when MLflow refuses it; not when nobody answers.

    MLflow looks whether a tag, a dataset or a metric is there, and then writes it: two processes that do so at once
    break a constraint of the database, and the second attempt of the one that lost finds everything in its place.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    for pause_seconds in SETTLE_SECONDS:
        try:
            write()
            return
        except MlflowException as error:
            if isinstance(error.__context__, RequestException):
                raise
            time.sleep(pause_seconds)
    write()


def _open(tracking: TrackingConfig) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    database = tracking.database()
    try:
        # Opening a SQLite file that is not there creates its tables, which two processes must not do at once.
        with exclusive(tracking) if database is not None else nullcontext():
            if database is not None and not database.exists():
                _create_database(database)
            client = MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)
            if database is not None:
                client.search_registered_models(max_results=1)
    except OSError as error:
        raise TunesmithError(f"MLflow's store {tracking.public_uri()} cannot be opened: {error}") from error
    return client


def _create_database(database: Path) -> None:
    """Create MLflow's tables aside: its migrations, cut short by a kill, leave a file that they refuse ever after."""
    from mlflow.tracking import MlflowClient

    aside = database.with_name(f"{database.name}.new")
    for leftover in (aside, aside.with_name(f"{aside.name}-journal")):
        leftover.unlink(missing_ok=True)
    uri = f"{SQLITE}{aside}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models(max_results=1)
    aside.replace(database)


def _check_reachable(tracking: TrackingConfig) -> None:
    """Ask a server for a sign of life: MLflow's own first call would wait for minutes."""
    if not tracking.uri:
        raise TunesmithError("tracking.uri is empty: load the recipe with Recipe.load, or name MLflow's store.")
    if not tracking.uri.startswith(("http://", "https://")):
        return
    import requests

    try:
        answer = requests.get(f"{tracking.uri.rstrip('/')}/health", timeout=PROBE_SECONDS)
    except requests.RequestException as error:
        raise TunesmithError(_away(tracking, type(error).__name__)) from error
    if answer.status_code in GATEWAY_ERRORS:
        raise TunesmithError(_away(tracking, f"status {answer.status_code}"))


def _away(tracking: TrackingConfig, how: str) -> str:
    return (
        f"the MLflow server {tracking.public_uri()} cannot be reached ({how}). "
        "Start it or correct tracking.uri (MLFLOW_TRACKING_URI), then run again: what is done is not done twice."
    )


def _quiet_loggers() -> None:
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
