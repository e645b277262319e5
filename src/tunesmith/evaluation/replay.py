"""A decision made again from the predictions that it rested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import CallError, TunesmithError
from tunesmith.evaluation.decide import DECISION_FILE, OURS, THEIRS, decide_again
from tunesmith.evaluation.evaluate import SLICES
from tunesmith.evaluation.gate import Decision
from tunesmith.store.sealed import MANIFEST, find_damage


class Replay(BaseModel):
    """A decision beside what the same predictions give now."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    folder: str
    """Where the decision lies."""
    decided: Decision
    """What was decided."""
    again: Decision
    """What the predictions give now."""
    differences: tuple[str, ...]
    """Where the two documents differ: nowhere, as long as the statistics are the same."""

    @property
    def is_same(self) -> bool:
        """Whether the two documents are equal."""
        return not self.differences

    @property
    def problem(self) -> str | None:
        """Why the decision does not follow from its predictions; None where it does."""
        if self.is_same:
            return None
        return (
            f"{self.folder}: the decision does not follow from its predictions: {len(self.differences)} values "
            "differ. Its files were changed, or it was made by another version of Tunesmith."
        )


def replay(folder: Path) -> Replay:
    """Decide again.

    Args:
        folder: decision.json and the predictions, in the store or anywhere else.

    Raises:
        CallError: A file is missing, damaged or no decision.
        TunesmithError: The folder is an artifact that does not match its manifest.
    """
    decided = _read(folder)
    damage = find_damage(folder) if (folder / MANIFEST).exists() else None
    if damage is not None:
        raise TunesmithError(f"{folder}: is damaged: {damage}. MLflow has the files in the candidate's run.")
    needed = [OURS, SLICES, *([THEIRS] if decided.comparison is not None else [])]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise CallError(f"{folder}: lacks {', '.join(missing)}, the predictions that the decision rested on.")
    again = decide_again(decided.case, folder)
    before, now = decided.model_dump(mode="json"), again.model_dump(mode="json")
    return Replay(folder=str(folder), decided=decided, again=again, differences=tuple(_differ(before, now)))


def _read(folder: Path) -> Decision:
    path = folder / DECISION_FILE
    if not path.is_file():
        raise CallError(f"{folder}: there is no {DECISION_FILE}; name the folder of a decision.")
    try:
        return Decision.read(json.loads(path.read_bytes()))
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise CallError(f"{path}: is not a decision that this version of Tunesmith can read: {first}") from error


def _differ(before: Any, now: Any, place: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = [*dict.fromkeys([*before, *now])]
        return [found for name in names for found in _differ(before.get(name), now.get(name), f"{place}.{name}")]
    return [] if before == now else [f"{place.removeprefix('.')}: {before!r}, now {now!r}"]
