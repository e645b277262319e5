"""Waiting for a person: the run is paused until somebody approves of a promotion, declines it, or the time is over.

The answer comes through Prefect, whose page of the run has a form for it, or through the registry, where `tunesmith
approve` and `tunesmith decline` leave it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from httpx import HTTPError
from prefect.exceptions import NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.store.ref import Ref
from tunesmith.tracking.approval import Approval, answer, ask, find_approval
from tunesmith.tracking.config import TrackingConfig

log = logging.getLogger(__name__)

POLL_SECONDS = 2
"""How often the registry and Prefect are asked for an answer."""
GRACE_SECONDS = 600
"""How much longer Prefect waits than we do: it is we who end the pause, and Prefect fails runs whose pause expires."""


class PromotionAnswer(RunInput):
    """The form on the page of a paused run."""

    approve: bool
    by: str = ""
    because: str = ""


def awaits_approval(version: Ref) -> bool:
    """Whether a registered version could be the champion, had a person said yes or no."""
    consent = version.facts.get("consent")
    return consent is not None and (consent["approval"] is None or consent["approval"]["answer"] is None)


def wait_for_approval(version: Ref, decision: Ref, gate: GateConfig, tracking: TrackingConfig, usual_uri: str) -> None:
    """Pause the flow run until somebody has said whether a decision may be carried out, or nobody did in time.

    What was said is in the registry afterwards.

    Args:
        version: The register artifact.
        decision: The decide artifact, a PROMOTE.
        gate: How long an answer is waited for.
        tracking: Where MLflow is.
        usual_uri: Where the commands that are told look for it by themselves.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    name, number = str(version.facts["model_name"]), int(version.facts["version"])
    approval = ask(name, number, decision.key, gate.approval_seconds, tracking)
    if approval.answer is not None:
        return
    approve, decline = (
        tracking.command(f"tunesmith {verb} models:/{name}/{number}", usual_uri) for verb in ("approve", "decline")
    )
    log.warning(
        "waiting for a person: `%s` makes it the champion, `%s` leaves it a candidate; until %s.",
        approve,
        decline,
        approval.until_text,
    )
    nobody = uuid4().hex
    with _watching(name, number, approval, tracking, nobody):
        said = pause_flow_run(
            _make_form(version, decision),
            timeout=int(approval.until_unix - time.time()) + GRACE_SECONDS,
            poll_interval=POLL_SECONDS,
            key=nobody,  # of its own: Prefect pauses once for a key, and does not count an attempt behind a pause
        )
    if said.because != nobody:
        try:
            answer(name, number, said.by, said.because, tracking, is_approved=said.approve)
        except ModelError as error:  # another answer came first, or the time was over
            log.warning("the answer in Prefect came too late: %s", error)


def _make_form(version: Ref, decision: Ref) -> type[PromotionAnswer]:
    """The form, with what a person has to know before answering."""
    reasons = "\n".join(f"- {reason}" for reason in decision.facts["reasons"])
    report = version.facts.get("report_uri")
    text = f"**{version.facts['model_uri']} may become the champion.** Set `approve`, and resume.\n\n{reasons}\n" + (
        f"\nReport: {report}\n" if report else ""
    )
    return PromotionAnswer.with_initial_data(description=text)


@contextmanager
def _watching(name: str, number: int, approval: Approval, tracking: TrackingConfig, nobody: str) -> Iterator[None]:
    """Resume the paused run, for the reason `nobody`, when the registry has an answer or the time is over."""
    is_over = threading.Event()
    run_id = UUID(str(flow_run.get_id()))

    def watch() -> None:
        while not is_over.wait(POLL_SECONDS):
            try:
                found = find_approval(name, number, tracking)
                if found is not None and found.is_open:
                    continue
                resume_flow_run(run_id, run_input={"approve": False, "because": nobody})
            except (TunesmithError, HTTPError, NotPausedError, RuntimeError) as error:  # away; or not paused yet
                log.debug("approval: %s", error)
            else:
                return

    watcher = threading.Thread(target=watch, name="approval-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join(timeout=5 * POLL_SECONDS)  # it may be asking a server that is away
