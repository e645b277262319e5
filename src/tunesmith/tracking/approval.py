"""The question whether a person approves of a promotion, and the answer: both are a tag of the version.

So an answer counts that came while nobody waited for it, and one decision is asked about once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.store.ref import Ref
from tunesmith.tracking.client import exclusive, mlflow_client
from tunesmith.tracking.config import TrackingConfig

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

APPROVAL_TAG = "tunesmith.approval"


class Answer(BaseModel):
    """What a person said to a promotion."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    is_approved: bool
    """Whether the version is to become the champion."""
    by: str
    """Who said so; empty where nobody knows."""
    because: str
    """The reason; may be empty."""
    answered_unix: float
    """When, in seconds."""

    @property
    def text(self) -> str:
        """Such as `approved by ada: the classes it confuses are harmless`."""
        said = "approved" if self.is_approved else "declined"
        return f"{said}{f' by {self.by}' if self.by else ''}{f': {self.because}' if self.because else ''}"


class Approval(BaseModel):
    """What is asked about a version, and what was answered."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    decision: str
    """The key of the PROMOTE decision that is to be approved."""
    asked_unix: float
    """When it was asked, in seconds."""
    until_unix: float
    """Until when an answer is waited for."""
    answer: Answer | None = None
    """What was said; None as long as nobody has."""

    @property
    def is_open(self) -> bool:
        """Whether an answer would still count."""
        return self.answer is None and time.time() < self.until_unix

    @property
    def until_text(self) -> str:
        """Until when, as a person reads it."""
        return datetime.fromtimestamp(self.until_unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True)
class Consent:
    """Whether persons let a decision be carried out.

    Attributes:
        is_needed: Whether a person has to be asked.
        approval: What was asked about the decision, and answered; None where nobody was asked.
    """

    is_needed: bool
    approval: Approval | None

    @classmethod
    def of(cls, decision: Ref, approval: Approval | None) -> Consent:
        """The consent to a decision, of what was asked about its version last."""
        is_manual = decision.facts["gate"].get("approval") == "manual"
        is_about = approval is not None and approval.decision == decision.key
        is_needed = is_manual and decision.facts["verdict"] == "PROMOTE"
        return cls(is_needed, approval if is_needed and is_about else None)

    @property
    def answer(self) -> Answer | None:
        """What was said; None where nobody was asked, or nobody answered."""
        return None if self.approval is None else self.approval.answer

    @property
    def is_given(self) -> bool:
        """Whether the decision may be carried out."""
        return not self.is_needed or (self.answer is not None and self.answer.is_approved)

    @property
    def text(self) -> str:
        """What a person said, or that nobody did, as a sentence; empty where nobody has to be asked."""
        if self.answer is not None:
            return f"It was {self.answer.text}."
        if self.approval is not None:
            return f"Nobody has approved of it; the question is open until {self.approval.until_text}."
        return "A person has to approve of it (gate.approval: manual)." if self.is_needed else ""

    @property
    def facts(self) -> dict[str, Any] | None:
        """For the facts of a stage; None where nobody has to be asked."""
        if not self.is_needed:
            return None
        approval = None if self.approval is None else self.approval.model_dump()
        return {"is_given": self.is_given, "text": self.text, "approval": approval}


def ask(model_name: str, version: int, decision: str, timeout_seconds: float, tracking: TrackingConfig) -> Approval:
    """Ask whether a decision may be carried out; a question that is open or answered stays as it is.

    Args:
        model_name: The registered model.
        version: The version that would become the champion.
        decision: The key of the decision.
        timeout_seconds: How long an answer is waited for.
        tracking: Where MLflow is.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    with mlflow_client(tracking) as client, exclusive(tracking):
        found = _read(client, model_name, version)
        if found is not None and found.decision == decision and (found.is_open or found.answer is not None):
            return found
        now = time.time()
        return _write(
            client, model_name, version, Approval(decision=decision, asked_unix=now, until_unix=now + timeout_seconds)
        )


def answer(
    model_name: str, version: int, by: str, because: str, tracking: TrackingConfig, *, is_approved: bool
) -> Approval:
    """Answer the question that is open about a version.

    Raises:
        ModelError: There is none: nobody asked, it was answered, or its time is over.
        TunesmithError: MLflow cannot be reached.
    """
    with mlflow_client(tracking) as client, exclusive(tracking):
        found = _read(client, model_name, version)
        if found is None or not found.is_open:
            raise ModelError(
                f"models:/{model_name}/{version}: {_describe_closed(found)} `tunesmith promote` makes any version the "
                "champion."
            )
        return _write(client, model_name, version, _answer(found, by, because, is_approved=is_approved))


def approve_by_hand(client: MlflowClient, model_name: str, version: int, by: str, because: str) -> None:
    """Answer the question that may be open about a version with yes, for a person makes it the champion directly.

    Args:
        client: The client; the caller holds the lock (`exclusive`).
        model_name: The registered model.
        version: The version.
        by: Who does so; empty where nobody knows.
        because: The reason.
    """
    found = _read(client, model_name, version)
    if found is not None and found.is_open:
        _write(client, model_name, version, _answer(found, by, because, is_approved=True))


def find_approval(model_name: str, version: int, tracking: TrackingConfig) -> Approval | None:
    """What was asked about a version last.

    Raises:
        TunesmithError: MLflow cannot be reached, or refuses to say.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_client(tracking) as client:
        try:
            return _read(client, model_name, version)
        except MlflowException as error:
            raise TunesmithError(f"models:/{model_name}/{version}: MLflow does not tell its tags: {error}") from error


def read_approval(tags: Mapping[str, str]) -> Approval | None:
    """What the tags of a version say was asked about it last."""
    text = tags.get(APPROVAL_TAG)
    return None if text is None else Approval.model_validate_json(text)


def _answer(asked: Approval, by: str, because: str, *, is_approved: bool) -> Approval:
    said = Answer(is_approved=is_approved, by=by, because=because, answered_unix=time.time())
    return asked.model_copy(update={"answer": said})


def _describe_closed(found: Approval | None) -> str:
    if found is None:
        return "no run asks whether it may become the champion (gate.approval: manual does)."
    if found.answer is not None:
        when = datetime.fromtimestamp(found.answer.answered_unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"it was {found.answer.text} ({when})."
    return f"the question was open until {found.until_text}, and nobody answered."


def _read(client: MlflowClient, model_name: str, version: int) -> Approval | None:
    return read_approval(client.get_model_version(model_name, str(version)).tags)


def _write(client: MlflowClient, model_name: str, version: int, approval: Approval) -> Approval:
    client.set_model_version_tag(model_name, str(version), APPROVAL_TAG, approval.model_dump_json())
    return approval
