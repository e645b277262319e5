"""Notes on candidates that MLflow does not know in full: what is missing, where it lies, which command uploads it.

A note lies in TUNESMITH_HOME from before the record is completed until after it. So neither a server that stays away
nor a kill makes anybody forget, and the notes can be read without any server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import Preempted, TunesmithError, UserError
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
    """What uploads what is missing, however often it is called."""

    def describe(self) -> str:
        """What is missing, in a few words."""
        files = f", {self.num_files:,} files of the model ({self.num_bytes / 1e6:,.1f} MB)" if self.num_files else ""
        rows = "1 row" if self.num_rows == 1 else f"{self.num_rows:,} rows"
        where = f", kept in {' and '.join(self.folders)}" if self.folders else ""
        return f"candidate {self.candidate_key[:8]} of {self.recipe}: {rows} of metrics{files}, its version{where}"


def list_unrecorded(folder: Path) -> list[Unrecorded]:
    """The notes in a folder, the oldest first."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [note for path in paths if (note := _read(path)) is not None]


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
        raise TunesmithError(f"{error}\nNot in MLflow yet: {note.describe()}. To upload it: {note.command}") from error
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
