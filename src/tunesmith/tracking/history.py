"""Which version was the champion when, and why: changes without gaps, kept with the registered model.

A change is written down before the aliases move, and marked as done behind that. One that a crash cut short is finished
by whoever looks at the history next, before anything else is changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import ModelError
from tunesmith.tracking.approval import approve_by_hand
from tunesmith.tracking.client import exclusive
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.registry import CHAMPION, RegisteredVersion, find_registered, registry_client

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

PREVIOUS, CANDIDATE = "previous", "candidate"
"""The aliases of the champion before this one, and of the newest version that is not the champion."""
HISTORY_TAG = "tunesmith.history."
MAX_CHANGE_LENGTH = 5000
"""Characters that MLflow's tables have for a tag of a registered model."""
CUT = " ... (cut)"

Action = Literal["promote", "rollback"]


class Change(BaseModel):
    """One change of the champion."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    """Its place in the history, from 1."""
    action: Action
    """What was done."""
    version: int
    """The champion since."""
    before: int | None
    """The champion until then; None where there was none."""
    previous: int | None
    """What a rollback from here goes back to."""
    decision: str | None
    """The key of the decision that was carried out; None where a person did it."""
    why: str
    """The reason."""
    changed_unix: float
    """When, in seconds."""
    is_done: bool = False
    """Whether the aliases have moved."""


def find_history(model_name: str, tracking: TrackingConfig) -> list[Change]:
    """All changes of a registered model's champion, the oldest first.

    Raises:
        ModelError: There is no such model.
        TunesmithError: MLflow cannot be reached.
    """
    with registry_client(model_name, tracking) as client:
        find_registered(client, model_name)
        return read_history(client, model_name)


def promote_by_hand(model_name: str, version: int, why: str, tracking: TrackingConfig, by: str = "") -> Change:
    """Make a version the champion, whatever a gate said; where a run asks about it, that is its answer.

    Args:
        model_name: The registered model.
        version: The version.
        why: The reason.
        tracking: Where MLflow is.
        by: Who does so; empty where nobody knows.

    Raises:
        ModelError: There is no such version, or it is the champion.
        TunesmithError: MLflow cannot be reached.
    """
    with registry_client(model_name, tracking) as client, exclusive(tracking):
        versions = find_registered(client, model_name)
        if version not in [found.version for found in versions]:
            known = ", ".join(str(found.version) for found in versions)
            raise ModelError(f"{model_name}: there is no version {version}. Versions: {known}.")
        if version == _find_champion(client, model_name):
            raise ModelError(f"{model_name}: version {version} is the champion already.")
        change = change_champion(client, model_name, version, None, why)
        approve_by_hand(client, model_name, version, by, why)  # a run that goes on for it finds the aliases moved
        return change


def roll_back(model_name: str, why: str, tracking: TrackingConfig) -> Change:
    """Make the champion before this one the champion again; called twice, the one before that.

    Raises:
        ModelError: There is no such model, or nothing to go back to.
        TunesmithError: MLflow cannot be reached.
    """
    with registry_client(model_name, tracking) as client, exclusive(tracking):
        versions = [found.version for found in find_registered(client, model_name)]
        history = finish_changes(client, model_name)
        aliases, champion = _read_model(client, model_name).aliases, _find_champion(client, model_name)
        # MLflow drops the aliases of a version that is deleted.
        wanted = int(aliases[PREVIOUS]) if PREVIOUS in aliases else history[-1].previous if history else None
        target = _find_earlier(history, wanted, {*versions} - {champion})
        if target is None:
            raise ModelError(
                f"{model_name}: there is no earlier champion to go back to. `tunesmith promote` makes any version the "
                f"champion; there are {', '.join(map(str, versions))}."
            )
        return _write(
            client,
            model_name,
            Change(
                number=len(history) + 1,
                action="rollback",
                version=target,
                before=champion,
                previous=_find_before(history, target),
                decision=None,
                why=why,
                changed_unix=time.time(),
            ),
        )


def change_champion(client: MlflowClient, model_name: str, version: int, decision: str | None, why: str) -> Change:
    """Make a version the champion, and write down why.

    Args:
        client: The client; the caller holds the lock (`exclusive`).
        model_name: The registered model.
        version: The new champion.
        decision: The key of the decision that asks for it.
        why: The reason.
    """
    number = len(finish_changes(client, model_name)) + 1
    before = _find_champion(client, model_name)
    return _write(
        client,
        model_name,
        Change(
            number=number,
            action="promote",
            version=version,
            before=before,
            previous=before,
            decision=decision,
            why=why,
            changed_unix=time.time(),
        ),
    )


def finish_changes(client: MlflowClient, model_name: str) -> list[Change]:
    """Carry out what a crash has cut short; gives the whole history."""
    history = read_history(client, model_name)
    if history and not history[-1].is_done:
        last, champion = history[-1], _find_champion(client, model_name)
        if champion in (last.before, last.version, None):
            history[-1] = _carry_out(client, model_name, last)
        else:  # somebody has moved the alias since
            log.warning(
                "%s: version %s became the champion elsewhere; the change to version %d, cut short before, is not "
                "carried out.", model_name, champion, last.version,
            )  # fmt: skip
            history[-1] = _mark(client, model_name, last)
    return history


def read_history(client: MlflowClient, model_name: str) -> list[Change]:
    """`find_history` with a client at hand."""
    tags = _read_model(client, model_name).tags
    names = sorted(name for name in tags if name.startswith(HISTORY_TAG))
    return [Change.model_validate_json(tags[name]) for name in names]


def set_candidate(client: MlflowClient, version: RegisteredVersion) -> None:
    """Let the alias `candidate` name the newest version, as long as it is not the champion."""
    client.set_registered_model_alias(version.model_name, CANDIDATE, str(version.version))


def _write(client: MlflowClient, model_name: str, change: Change) -> Change:
    _set_tag(client, model_name, change)
    return _carry_out(client, model_name, change)


def _carry_out(client: MlflowClient, model_name: str, change: Change) -> Change:
    """Move the aliases to where a change wants them, as far as those versions are still there; as often as it takes."""
    versions = {found.version for found in find_registered(client, model_name)}
    if change.version not in versions:
        log.warning("%s: version %d was deleted, and does not become the champion.", model_name, change.version)
        return _mark(client, model_name, change)
    previous = _find_earlier(read_history(client, model_name), change.previous, versions - {change.version})
    change = change.model_copy(update={"previous": previous})
    aliases = _read_model(client, model_name).aliases
    client.set_registered_model_alias(model_name, CHAMPION, str(change.version))
    if change.previous is not None:
        client.set_registered_model_alias(model_name, PREVIOUS, str(change.previous))
    elif PREVIOUS in aliases:
        client.delete_registered_model_alias(model_name, PREVIOUS)
    if str(aliases.get(CANDIDATE)) == str(change.version):
        client.delete_registered_model_alias(model_name, CANDIDATE)
    return _mark(client, model_name, change)


def _find_earlier(history: Sequence[Change], version: int | None, versions: Collection[int]) -> int | None:
    """A champion if it is among some versions, else the one before it, and so on; None where none is."""
    seen = set()
    while version is not None and version not in versions:
        seen.add(version)
        before = _find_before(history, version)
        version = None if before in seen else before
    return version


def _find_before(history: Sequence[Change], version: int) -> int | None:
    """The champion before a version's last promotion."""
    arrivals = [change for change in history if change.action == "promote" and change.version == version]
    return arrivals[-1].before if arrivals else None


def _mark(client: MlflowClient, model_name: str, change: Change) -> Change:
    done = change.model_copy(update={"is_done": True})
    _set_tag(client, model_name, done)
    return done


def _set_tag(client: MlflowClient, model_name: str, change: Change) -> None:
    client.set_registered_model_tag(model_name, f"{HISTORY_TAG}{change.number:06d}", _write_down(change))


def _write_down(change: Change) -> str:
    """A change as JSON, its reason cut where it would be too long."""
    text, length = change.model_dump_json(), len(change.why)
    while len(text) > MAX_CHANGE_LENGTH:
        length = length * 9 // 10
        text = change.model_copy(update={"why": change.why[:length] + CUT}).model_dump_json()
    return text


def _find_champion(client: MlflowClient, model_name: str) -> int | None:
    version = _read_model(client, model_name).aliases.get(CHAMPION)
    return None if version is None else int(version)


def _read_model(client: MlflowClient, model_name: str) -> Any:
    return client.get_registered_model(model_name)
