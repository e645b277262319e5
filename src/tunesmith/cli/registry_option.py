"""How commands on registered models find MLflow."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.tracking.config import TrackingConfig
    from tunesmith.tracking.history import Change

because_option = click.option("--because", default="", metavar="TEXT", help="The reason, kept in the history.")


def find_tracking() -> TrackingConfig:
    """MLflow as MLFLOW_TRACKING_URI has it, else in the home."""
    from tunesmith.tracking.config import TrackingConfig

    return TrackingConfig(uri=Home.locate(os.environ, Path.cwd()).find_tracking_uri(os.environ))


def describe_change(model_name: str, change: Change) -> str:
    """What a change of the champion came to, for people."""
    before = "" if change.before is None else f"; it was version {change.before}"
    back = "" if change.previous is None else f". `tunesmith rollback {model_name}` goes to version {change.previous}"
    return f"{model_name}: the champion is version {change.version}{before}{back}"


def answer_question(model: str, because: str, *, is_approved: bool) -> tuple[dict[str, Any], str]:
    """Answer what a run asks about a version; gives the answer for machines and for people."""
    from tunesmith.errors import ModelError
    from tunesmith.store.keys import compute_key
    from tunesmith.tracking.approval import answer
    from tunesmith.tracking.registry import find_named

    tracking = find_tracking()
    version = find_named(model, tracking)
    asked = version.approval
    if asked is not None and version.decision is not None and compute_key(version.decision) != asked.decision:
        raise ModelError(
            f"{version.uri}: it was judged again since it was asked about, with {version.verdict}. Run its recipe "
            "again, and answer what that asks."
        )
    approval = answer(version.model_name, version.version, find_user(), because, tracking, is_approved=is_approved)
    assert approval.answer is not None
    document = {"model_name": version.model_name, "version": version.version, **approval.model_dump(mode="json")}
    return document, f"{version.uri}: {approval.answer.text}"


def find_user() -> str:
    """The login name; empty in a container that knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
