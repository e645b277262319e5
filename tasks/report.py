"""How a run's summary is shown on Prefect's page of the run."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tunesmith.report.page import render_markdown
from tunesmith.report.profile_page import ProfilePage
from tunesmith.report.summary import RunSummary
from tunesmith.store.ref import Ref
from tunesmith.tracking.register import LOSS_CURVE


@task(cache_policy=NO_CACHE)
def publish_summary(summary: RunSummary, version: Ref) -> None:
    """Put a table, the loss curve and the data's profile on the page of the run."""
    markdown = render_markdown(summary, (version.folder / LOSS_CURVE).read_bytes(), ProfilePage.read(version.folder))
    create_markdown_artifact(markdown, key="summary", description=f"{summary.name}: {summary.verdict}")
