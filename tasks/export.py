"""How exporting runs."""

from __future__ import annotations

from prefect import task

from tunesmith.export.config import ExportConfig
from tunesmith.export.export import derive_export
from tunesmith.export.export import export as export_candidate
from tunesmith.kinds import Examples
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent


@task(cache_policy=ByContent(derive=derive_export), result_serializer="json")
def export(
    candidate: Ref,
    features: Ref,
    report: Ref,
    examples: Examples,
    model: ModelConfig,
    export: ExportConfig,
    store: StoreConfig,
) -> Ref:
    """Write the model as plain libraries read it, and prove for each format that it answers the same."""
    return export_candidate(candidate, features, report, examples, model, export, open_store(store))
