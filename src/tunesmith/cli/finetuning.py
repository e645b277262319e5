"""Running the finetune flow in this process, for `run` and `demo`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from tunesmith.cli.importing import uncollected
from tunesmith.cli.prefect_server import check_named_server, prefect_server
from tunesmith.cli.table import format_seconds, format_table
from tunesmith.errors import TunesmithError
from tunesmith.home import Home

if TYPE_CHECKING:
    from httpx import HTTPStatusError

    from tunesmith.report.summary import RunSummary
    from tunesmith.tracking.config import TrackingConfig

MAX_REASON = 100
"""Characters of a reason on the last screen; the log lines have it in full."""
MAX_WARNINGS, MAX_WARNING = 5, 200
"""Warnings about the data, and characters of one, on the last screen."""
DRAIN_SECONDS = 10
"""How long to wait for Prefect's client to deliver its last events and log lines."""


def run_finetune(recipe: Path, overrides: Sequence[str]) -> RunSummary:
    """Run the flow here, on the server that PREFECT_API_URL names or on one of its own.

    Raises:
        TunesmithError: The recipe is wrong, a stage failed, or Prefect's server went away.
        KeyboardInterrupt: The user stopped the run.
    """
    with prefect_server(Home.locate(os.environ, Path.cwd()), os.environ) as server:
        from tunesmith.recipe import Recipe

        Recipe.load(recipe, overrides)  # its mistakes are told before anything heavy is imported
        if server is None:
            check_named_server(os.environ["PREFECT_API_URL"])
        with uncollected():
            from httpx import HTTPError, HTTPStatusError

            from tunesmith.flows.finetune import finetune

        if server is not None:
            server.wait_until_up()
        patience = DRAIN_SECONDS
        try:
            return finetune(str(recipe.absolute()), tuple(overrides))
        except HTTPStatusError as error:
            patience = 0
            raise TunesmithError(_describe_refusal(error)) from error
        except HTTPError as error:
            patience = 0
            raise TunesmithError(
                f"the Prefect server {os.environ['PREFECT_API_URL']} went away and did not come back in time "
                f"({type(error).__name__}). What is done is kept: run the same command again, on any server."
            ) from error
        finally:
            _drain_client(patience)


def _describe_refusal(error: HTTPStatusError) -> str:
    answer = error.response
    what = f"the Prefect server answers {answer.status_code} {answer.reason_phrase} to {answer.url}"
    if answer.status_code in (401, 403):
        return (
            f"{what}: these credentials are refused. Set PREFECT_API_KEY (PREFECT_API_AUTH_STRING where the server "
            "has a password of its own), or log in with `prefect cloud login`; or unset PREFECT_API_URL: then the run "
            "brings its own server."
        )
    return f"{what}. Its log says why. What is done is kept: run the same command again when that is mended."


def _drain_client(seconds: float) -> None:
    """Let Prefect's client deliver its last events and log lines, and drop what it could not deliver in that time.

    Prefect itself drops nothing: where its server is gone, it would hold the process at its end for eight seconds for
    each event.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    kinds: tuple[Any, ...] = (EventsWorker, APILogWorker)  # drain_all alone is public
    for kind in kinds:
        services = tuple(kind._instances.values())
        _, undelivered = kind.drain_all(timeout=seconds)
        for service in services:
            with service._queue.mutex:
                service._queue.queue.clear()
            service._queue.put_nowait(None)  # what ends it
        wait(undelivered, timeout=DRAIN_SECONDS)  # for the one that it is at


def render_summary(summary: RunSummary) -> str:
    """The summary as the last screen of a run."""
    sections = [
        format_table(["stage", "key", "took", ""], _stage_rows(summary)),
        format_table(["", "rows", ""], _row_rows(summary)),
        *_data_sections(summary),
        _training_lines(summary),
        format_table(
            [f"on {summary.num_test_examples:,} test examples", "candidate", "95 % interval", summary.baseline_name],
            _metric_rows(summary),
        ),
        *_slice_tables(summary),
        *_export_lines(summary),
        "\n".join([_version_line(summary), *(f"  {reason}" for reason in summary.reasons), *_approval_lines(summary)]),
        _pages(summary),
    ]
    return "\n\n".join(sections)


def _stage_rows(summary: RunSummary) -> list[list[str]]:
    rows = []
    for stage in summary.stages:
        why = "cached" if stage.is_cached else shorten(f"computed: {stage.reason}", MAX_REASON, placeholder=" ...")
        rows.append([stage.name, stage.key, format_seconds(stage.seconds), why])
    return rows


def _row_rows(summary: RunSummary) -> list[list[str]]:
    rows = [["read", f"{summary.rows_in:,}", ""]]
    rows += [["dropped", f"{count:,}", reason] for reason, count in summary.dropped.items()]
    for split, count in summary.num_rows.items():
        truncated = summary.num_truncated.get(split, 0)
        rows.append([split, f"{count:,}", f"{truncated:,} truncated" if truncated else ""])
    return rows


def _data_sections(summary: RunSummary) -> list[str]:
    """What a person should look at before trusting the rows; nothing where there is nothing."""
    lines = []
    if summary.num_quarantined:
        rows = "1 row" if summary.num_quarantined == 1 else f"{summary.num_quarantined:,} rows"
        lines.append(f"{rows} in quarantine: tunesmith data quarantine {summary.quarantine_key}")
    lines += [shorten(warning, MAX_WARNING, placeholder=" ...") for warning in summary.drift_warnings[:MAX_WARNINGS]]
    if len(summary.drift_warnings) > MAX_WARNINGS:
        lines.append(f"{len(summary.drift_warnings) - MAX_WARNINGS} more warnings on the page of the run")
    return ["\n".join(lines)] if lines else []


def _training_lines(summary: RunSummary) -> str:
    from tunesmith.report.calibration import describe_calibration
    from tunesmith.report.summary import describe_merging, describe_start, describe_steps

    speed = f"{summary.examples_per_second:,.0f} examples a second"
    how = ", ".join(filter(None, [describe_steps(summary), describe_start(summary), speed]))
    return "\n".join(
        filter(None, [f"trained {how}", describe_merging(summary), describe_calibration(summary.calibration)])
    )


def _metric_rows(summary: RunSummary) -> list[list[str]]:
    return [
        [
            name,
            f"{summary.metrics[name]:.4f}",
            str(summary.intervals[name]),
            _number(summary.baseline_metrics.get(name)),
        ]
        for name in summary.headline_metrics
    ]


def _slice_tables(summary: RunSummary) -> list[str]:
    """The primary metric on each slice; nothing where there are none."""
    rows = []
    for part in summary.slices:
        value, interval = part["metrics"].get(summary.primary_metric), part["intervals"].get(summary.primary_metric)
        between = "" if interval is None else f"{interval['low']:.4f} to {interval['high']:.4f}"
        rows.append([part["name"], f"{part['num_examples']:,}", _number(value), between])
    return [format_table(["slice", "examples", summary.primary_metric, "95 % interval"], rows)] if rows else []


def _export_lines(summary: RunSummary) -> list[str]:
    """The formats, and why one is not shipped; nothing where there are only the safetensors."""
    from tunesmith.report.formats import describe_shipping

    lines = describe_shipping(summary.formats)
    return ["\n".join(lines)] if lines else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _version_line(summary: RunSummary) -> str:
    aliases = f", alias {', '.join(summary.aliases)}" if summary.aliases else ""
    return f"{summary.verdict}: {summary.model_name} version {summary.version}{aliases} ({summary.model_uri})"


def _approval_lines(summary: RunSummary) -> list[str]:
    """What a person said to the promotion, and what else makes it the champion."""
    if summary.approval is None:
        return []
    lines = [f"  {summary.approval}"]
    if "champion" not in summary.aliases:
        tracking, home = _find_tracking(summary), Home.locate(os.environ, Path.cwd())
        promote = tracking.command(f"tunesmith promote {summary.model_uri}", home.find_tracking_uri(os.environ))
        lines.append(f"  To make it the champion all the same: {promote}")
    return lines


def _find_tracking(summary: RunSummary) -> TrackingConfig:
    from tunesmith.tracking.config import TrackingConfig

    return TrackingConfig(uri=summary.tracking_uri)


def _pages(summary: RunSummary) -> str:
    """The report and MLflow's page, and the commands that open the pages of what is no server."""
    home = Home.locate(os.environ, Path.cwd())
    lines = [] if summary.report_uri is None else [f"Report:        {summary.report_uri}"]
    if _find_tracking(summary).database() is not None:
        uri = shlex.quote(summary.tracking_uri)
        lines.append(f"MLflow page:   {_script('mlflow')} ui --backend-store-uri {uri}")
    elif summary.tracking_uri.startswith(("http://", "https://")):
        lines.append(f"MLflow page:   {summary.tracking_uri}")
    if not os.environ.get("PREFECT_API_URL"):
        folder = shlex.quote(str(home.prefect_folder))
        lines.append(f"Prefect page:  PREFECT_HOME={folder} {_script('prefect')} server start")
    return "\n".join(lines)


def _script(name: str) -> str:
    """How the user calls a script that lies beside ours: by name where it is on the PATH, else by its shorter path."""
    script = Path(sys.executable).parent / name
    if shutil.which(name) == str(script):
        return name
    return min(str(script), os.path.relpath(script), key=len)
