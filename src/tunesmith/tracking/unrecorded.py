"""Notes on candidates that MLflow does not know in full: what is missing, where it lies, which command uploads it.

A note lies in TUNESMITH_HOME from before the record is completed until after it. So neither a server that stays away
nor a kill makes anybody forget, and the notes can be read without any server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import CallError, Preempted, TunesmithError, UserError
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import write_bytes_atomically
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.contents import find_model_files
from tunesmith.tracking.record import RecipeRecord


class Unrecorded(BaseModel):
    """What MLflow lacks of a candidate that is trained and kept."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    recipe: str
    """The recipe's name."""
    candidate_key: str
    """The key of the train artifact."""
    tracking_uri: str
    """Where it belongs, without user and password."""
    num_rows: int
    """Rows of metrics that MLflow did not take while the candidate was trained."""
    num_files: int = 0
    """Files of the model, all of which may be missing; 0 before it is exported."""
    num_bytes: int = 0
    """Their size."""
    folders: tuple[str, ...] = ()
    """Where the rows and the files lie."""
    command: str
    """What uploads what is missing, however often it is called, as long as data, recipe and code are what they were."""

    def describe(self) -> str:
        """What is missing, in a few words."""
        files = f", {self.num_files:,} files of the model ({self.num_bytes / 1e6:,.1f} MB)" if self.num_files else ""
        rows = "1 row" if self.num_rows == 1 else f"{self.num_rows:,} rows"
        where = f", kept in {' and '.join(self.folders)}" if self.folders else ""
        return f"candidate {self.candidate_key[:8]} of {self.recipe}: {rows} of metrics{files}, its version{where}"

    def advise(self) -> str:
        """What to do about it."""
        forget = f"tunesmith models forget {self.candidate_key[:8]}"
        return f"to upload it, while data, recipe and code are as they were: {self.command}; to let it be: {forget}"


def list_unrecorded(folder: Path) -> list[Unrecorded]:
    """The notes in a folder, the oldest first."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [note for path in paths if (note := _read(path)) is not None]


def forget_note(folder: Path, candidate_key: str) -> Unrecorded:
    """Drop the note on a candidate that nobody wants to upload any more; what is trained stays in the store.

    Args:
        folder: Where the notes lie.
        candidate_key: The key of the train artifact, or as much of its beginning as no other note has.

    Raises:
        CallError: There is no such note, or there are several.
    """
    notes = list_unrecorded(folder)
    found = [note for note in notes if note.candidate_key.startswith(candidate_key)]
    if len(found) != 1:
        known = ", ".join(note.candidate_key for note in found or notes) or "none"
        what = "more than one candidate" if found else "no candidate"
        raise CallError(f"{candidate_key}: {what} of that key waits to be uploaded; there are {known}.")
    _path(folder, found[0].candidate_key).unlink(missing_ok=True)
    return found[0]


def note_rows(
    folder: Path, record: RecipeRecord, tracking: TrackingConfig, candidate_key: str, num_rows: int
) -> Unrecorded:
    """Leave a note on rows that MLflow did not take."""
    note = Unrecorded(
        recipe=record.name,
        candidate_key=candidate_key,
        tracking_uri=tracking.public_uri(),
        num_rows=num_rows,
        command=record.command,
    )
    _write(folder, note)
    return note


@contextmanager
def completing_record(
    folder: Path, candidate: Ref, exported: Ref, record: RecipeRecord, tracking: TrackingConfig
) -> Iterator[None]:
    """Keep a note until the block, which completes the record, has come to its end.

    Args:
        folder: Where the notes lie.
        candidate: The train artifact.
        exported: Its export.
        record: The recipe.
        tracking: Where MLflow is.

    Raises:
        TunesmithError: What the block raises, and besides what is missing and how it gets there.
    """
    path = _path(folder, candidate.key)
    note = _read(path) or note_rows(folder, record, tracking, candidate.key, 0)
    sizes = find_model_files(exported)
    update = {
        "tracking_uri": tracking.public_uri(),
        "num_files": len(sizes),
        "num_bytes": sum(sizes.values()),
        "folders": (candidate.uri, exported.uri),
        "command": record.command,
    }
    note = note.model_copy(update=update)
    _write(folder, note)
    try:
        yield
    except (UserError, Preempted):
        raise
    except TunesmithError as error:
        raise TunesmithError(f"{error}\nNot in MLflow yet: {note.describe()}; {note.advise()}") from error
    path.unlink(missing_ok=True)


def _path(folder: Path, candidate_key: str) -> Path:
    return folder / f"{candidate_key}.json"


def _write(folder: Path, note: Unrecorded) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(_path(folder, note.candidate_key), note.model_dump_json(indent=1).encode())


def _read(path: Path) -> Unrecorded | None:
    try:
        return Unrecorded.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
