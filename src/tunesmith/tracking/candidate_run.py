"""THE MLflow run of a candidate: found by the candidate's key or created, and each row in it once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.errors import TunesmithError
from tunesmith.tracking.client import exclusive, settle
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.names import find_mlflow_name
from tunesmith.tracking.record import RecipeRecord

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

CANDIDATE_TAG = "tunesmith.candidate"
FLOW_RUN_TAG = "tunesmith.flow_run_id"

MAX_METRICS = 1000
"""MLflow's limit on the metrics of one request."""
MAX_PARAMETERS = 100
"""MLflow's limit on the parameters of one request."""
MAX_PARAMETER_LENGTH = 6000
"""MLflow's limit on the characters of one parameter."""

Row = Mapping[str, Any]
"""A line of metrics.jsonl: `{"step": 10, "metrics": {"train/loss": 0.7}}`, and what else there may be."""

T = TypeVar("T")


def open_run(
    client: MlflowClient, tracking: TrackingConfig, record: RecipeRecord, candidate_key: str, flow_run_id: str | None
) -> Run:
    """The run of a candidate, RUNNING; one that is FINISHED is complete, and stays as it is."""
    experiment_id = _ensure_experiment(client, tracking)
    with exclusive(tracking):
        run = _find_run(client, experiment_id, candidate_key)
        run = run or _restore_run(client, experiment_id, candidate_key)
        if run is None:
            run = _create_run(client, experiment_id, record, candidate_key)
    if run.info.status not in ("RUNNING", "FINISHED"):
        client.update_run(run.info.run_id, status="RUNNING")
    _log_tags(client, run, record, flow_run_id)
    _log_parameters(client, run, record.parameters())
    return client.get_run(run.info.run_id)


def find_running(client: MlflowClient, tracking: TrackingConfig, flow_run_id: str) -> list[Run]:
    """The runs that a flow run opened and that nobody closed."""
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        return []
    query = f"tags.`{FLOW_RUN_TAG}` = '{flow_run_id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs([experiment.experiment_id], query))


class RowLog:
    """Writes metric rows into one run, each once, whatever was written before and by whom.

    A row's timestamp is made of the run's start and the step, so that a row which is sent again is the same row for
    MLflow. A step that the run has is not sent at all: a GPU may compute it again with another last digit.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._steps: dict[str, set[int]] = {}

    def write(self, client: MlflowClient, rows: Iterable[Row]) -> None:
        """Write the rows that the run does not have."""
        for batch in _batches(self._missing(client, rows), MAX_METRICS):
            settle(partial(client.log_batch, self._run.info.run_id, metrics=batch))
            for metric in batch:
                self._steps[metric.key].add(metric.step)

    def _missing(self, client: MlflowClient, rows: Iterable[Row]) -> Iterator[Metric]:
        from mlflow.entities import Metric

        for row in rows:
            step = int(row["step"])
            for name, value in _with_mlflow_names(row["metrics"]).items():
                if value is not None and step not in self._written_steps(client, name):
                    yield Metric(name, float(value), self._run.info.start_time + step, step)

    def _written_steps(self, client: MlflowClient, name: str) -> set[int]:
        if name not in self._steps:
            history = client.get_metric_history(self._run.info.run_id, name)
            self._steps[name] = {metric.step for metric in history}
        return self._steps[name]


def log_final_metrics(client: MlflowClient, run: Run, metrics: Mapping[str, float], step: int) -> None:
    """Write metrics that have one value a run; a value that has changed comes after the old one, and counts.

    Args:
        client: The client.
        run: The run.
        metrics: Name -> value.
        step: The training's last step, or 0.
    """
    from mlflow.entities import Metric

    changed = []
    for name, value in _with_mlflow_names(metrics).items():
        history = client.get_metric_history(run.info.run_id, name)
        latest = max(history, key=lambda metric: (metric.step, metric.timestamp), default=None)
        if latest is None:
            changed.append(Metric(name, float(value), run.info.start_time + step, step))
        elif not _is_same(latest.value, float(value)):
            changed.append(Metric(name, float(value), latest.timestamp + 1, max(step, latest.step)))
    for batch in _batches(changed, MAX_METRICS):
        settle(partial(client.log_batch, run.info.run_id, metrics=batch))


def _is_same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


def _ensure_experiment(client: MlflowClient, tracking: TrackingConfig) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        try:
            return str(client.create_experiment(tracking.experiment, artifact_location=_artifact_location(tracking)))
        except MlflowException:
            # Another process may have created it meanwhile.
            experiment = client.get_experiment_by_name(tracking.experiment)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TunesmithError(
            f"the MLflow experiment {tracking.experiment!r} is deleted. Restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or set another tracking.experiment."
        )
    return str(experiment.experiment_id)


def _artifact_location(tracking: TrackingConfig) -> str | None:
    """Beside the database, where it is a file: MLflow's default is `mlruns` in the working directory."""
    database = tracking.database()
    return None if database is None else (database.absolute().parent / "mlartifacts").as_uri()


def _find_run(client: MlflowClient, experiment_id: str, candidate_key: str) -> Run | None:
    from mlflow.entities import ViewType

    return _oldest(client, experiment_id, candidate_key, ViewType.ACTIVE_ONLY)


def _restore_run(client: MlflowClient, experiment_id: str, candidate_key: str) -> Run | None:
    """Take the deletion of a run back: a version of the registry may name it."""
    from mlflow.entities import ViewType

    deleted = _oldest(client, experiment_id, candidate_key, ViewType.DELETED_ONLY)
    if deleted is None:
        return None
    log.warning("MLflow: the run %s of this candidate was deleted, and is restored.", deleted.info.run_id)
    client.restore_run(deleted.info.run_id)
    return client.get_run(deleted.info.run_id)


def _oldest(client: MlflowClient, experiment_id: str, candidate_key: str, view_type: int) -> Run | None:
    query = f"tags.`{CANDIDATE_TAG}` = '{candidate_key}'"
    found = client.search_runs([experiment_id], query, view_type, order_by=["attributes.start_time ASC"])
    return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def _create_run(client: MlflowClient, experiment_id: str, record: RecipeRecord, candidate_key: str) -> Run:
    name = f"{record.name}-{candidate_key[:8]}"
    created = client.create_run(experiment_id, run_name=name, tags={CANDIDATE_TAG: candidate_key})
    # A server has no lock for us: when two processes created one at once, the older stands, and ours goes.
    first = _find_run(client, experiment_id, candidate_key) or created
    if first.info.run_id != created.info.run_id:
        client.delete_run(created.info.run_id)
    return first


def _log_tags(client: MlflowClient, run: Run, record: RecipeRecord, flow_run_id: str | None) -> None:
    from mlflow.entities import RunTag

    tags = {
        "tunesmith.recipe": record.name,
        FLOW_RUN_TAG: flow_run_id,
        "mlflow.source.name": "tunesmith",
        "mlflow.source.git.commit": record.git_commit,
    }
    changed = [RunTag(name, value) for name, value in tags.items() if value and run.data.tags.get(name) != value]
    if changed:
        settle(lambda: client.log_batch(run.info.run_id, tags=changed))


def _log_parameters(client: MlflowClient, run: Run, parameters: Mapping[str, str]) -> None:
    """Log the parameters that the run does not have: MLflow refuses to change one, and the whole batch with it."""
    from mlflow.entities import Param

    named = _with_mlflow_names(parameters)
    missing = [Param(name, _cut(name, value)) for name, value in named.items() if name not in run.data.params]
    for batch in _batches(missing, MAX_PARAMETERS):
        settle(partial(client.log_batch, run.info.run_id, params=batch))


def _with_mlflow_names(values: Mapping[str, T]) -> dict[str, T]:
    return {find_mlflow_name(name): value for name, value in values.items()}


def _cut(name: str, value: str) -> str:
    if len(value) <= MAX_PARAMETER_LENGTH:
        return value
    note = f"... (cut, {len(value)} characters; whole in recipe.yaml)"
    log.info("MLflow keeps %d of the %d characters of %s.", MAX_PARAMETER_LENGTH, len(value), name)
    return value[: MAX_PARAMETER_LENGTH - len(note)] + note


def _batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
