"""How the data stages run."""

from __future__ import annotations

from prefect import task

from tunesmith.data.snapshot import derive_snapshot
from tunesmith.data.snapshot import snapshot as take_snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.data.split import SplitConfig, derive_split
from tunesmith.data.split import split as split_rows
from tunesmith.kinds import Examples
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent, is_transient


@task(
    cache_policy=ByContent(derive=derive_snapshot),
    result_serializer="json",
    retries=3,
    retry_delay_seconds=[1, 10, 60],
    retry_condition_fn=is_transient,
)
def snapshot(data: DataConfig, examples: Examples, store: StoreConfig) -> Ref:
    """Read the sources, transform and check the rows."""
    return take_snapshot(data, examples, open_store(store))


@task(cache_policy=ByContent(derive=derive_split), result_serializer="json")
def split(snapshot: Ref, split: SplitConfig, examples: Examples, store: StoreConfig) -> Ref:
    """Put every row into train, validation or test."""
    return split_rows(snapshot, split, examples, open_store(store))
