"""How the record of a candidate is completed."""

from __future__ import annotations

import logging

from prefect import task
from prefect.runtime import flow_run

from tunesmith.errors import TunesmithError
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent, is_transient
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.register import derive_register
from tunesmith.tracking.register import register as register_candidate
from tunesmith.tracking.run import close_runs

log = logging.getLogger(__name__)


@task(
    cache_policy=ByContent(derive=derive_register),
    result_serializer="json",
    retries=3,
    retry_delay_seconds=[1, 10, 30],
    retry_condition_fn=is_transient,
)
def register(
    candidate: Ref,
    report: Ref,
    decision: Ref,
    exported: Ref,
    snapshot: Ref,
    splits: Ref,
    record: RecipeRecord,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: StoreConfig,
) -> Ref:
    """Complete the MLflow run, register the model version and move the alias as decided."""
    return register_candidate(
        candidate,
        report,
        decision,
        exported,
        snapshot,
        splits,
        record,
        registry,
        tracking,
        open_store(store),
        flow_run_id=flow_run.get_id(),
    )


def close_unfinished(tracking: TrackingConfig, flow_run_id: str, *, has_failed: bool) -> None:
    """Close the MLflow runs that a flow run left open; the next one that trains the candidate resumes them."""
    try:
        close_runs(tracking, flow_run_id, "FAILED" if has_failed else "KILLED")
    except TunesmithError as error:
        log.warning("The candidate's run stays open in MLflow until it is run again: %s", error)
