"""How a run's summary is shown on Prefect's page of the run."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tunesmith.report.summary import RunSummary, render_markdown
from tunesmith.store.ref import Ref
from tunesmith.tracking.register import LOSS_CURVE


@task(cache_policy=NO_CACHE)
def publish_summary(summary: RunSummary, version: Ref) -> None:
    """Put a table and the loss curve on the page of the run."""
    markdown = render_markdown(summary, (version.folder / LOSS_CURVE).read_bytes())
    create_markdown_artifact(markdown, key="summary", description=f"{summary.name}: {summary.verdict}")
