"""How the data stages run."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tunesmith.data.fetch import fetch as fetch_sources
from tunesmith.data.snapshot import derive_snapshot
from tunesmith.data.snapshot import snapshot as take_snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.data.split import Weights, derive_split
from tunesmith.data.split import split as split_rows
from tunesmith.data.split_config import SplitConfig
from tunesmith.kinds import Examples
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent, is_transient


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[1, 10, 60], retry_condition_fn=is_transient)
def fetch(data: DataConfig, store: StoreConfig) -> Ref:
    """Look what the sources hold now, and bring here what is not."""
    return fetch_sources(data, open_store(store))


@task(cache_policy=ByContent(derive=derive_snapshot), result_serializer="json")
def snapshot(fetched: Ref, data: DataConfig, examples: Examples, store: StoreConfig) -> Ref:
    """Read, transform and check the rows."""
    return take_snapshot(fetched, data, examples, open_store(store))


@task(cache_policy=ByContent(derive=derive_split), result_serializer="json")
def split(snapshot: Ref, split: SplitConfig, examples: Examples, weights: Weights, store: StoreConfig) -> Ref:
    """Put every row into train, validation or test."""
    return split_rows(snapshot, split, examples, weights, open_store(store))
