"""Shards of predictions: each with a manifest that says which rows it holds, of which run, and what its bytes are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import CallError
from tunesmith.inference.places import Place
from tunesmith.store.keys import file_sha256

log = logging.getLogger(__name__)

NOTES = "_shards"
"""The folder of manifests; a name that begins so is no data to Spark, Arrow and the like."""
RUN_FILE = f"{NOTES}/run.json"
PART = "part-"


class ShardManifest(BaseModel):
    """One finished shard."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """The run: the model, the input, the options and the code."""
    sha256: str
    """Of the shard's bytes."""
    first_row: int
    """The number of its first row in the input, from 0."""
    num_rows: int
    """How many rows it holds."""
    num_too_long: int
    """Rows of it without a prediction."""
    added_columns: tuple[str, ...]
    """The columns that predicting added."""


class RunNote(BaseModel):
    """What a place with shards belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """As in the manifests."""
    num_rows: int
    """Rows of the input."""
    shard_rows: int
    """Rows of each shard but the last."""


@dataclass(frozen=True)
class Shards:
    """The shards of one run at one place.

    Attributes:
        place: Where they lie.
        note: Which run it is.
        extension: Of the shards' names, such as `.parquet`.
        title: How messages call the place.
    """

    place: Place
    note: RunNote
    extension: str
    title: str

    @property
    def num_shards(self) -> int:
        """How many shards there will be."""
        return -(-self.note.num_rows // self.note.shard_rows)

    def name(self, number: int) -> str:
        """The name of a shard's file."""
        return f"{PART}{number:05d}{self.extension}"

    def begin(self, *, overwrite: bool) -> None:
        """Take the place for this run.

        Args:
            overwrite: Whether the shards of another run are deleted.

        Raises:
            CallError: Another run's shards are there, or files that no run wrote.
        """
        names, found = self.place.list_names(), self._read_note()
        if found == self.note:
            return
        own = [name for name in names if name.startswith((PART, f"{NOTES}/", "_damaged-"))]
        others = sorted({*names} - {*own})
        if others or (names and found is None and RUN_FILE not in names):
            raise CallError(
                f"{self.title}: holds files that predicting did not write (first: {(others or names)[0]}); name an "
                "empty folder, or a new one"
            )
        if names and not overwrite:
            raise CallError(
                f"{self.title}: holds the predictions of another model, input, option or version of Tunesmith; name "
                "another folder, or ask for it to be overwritten"
            )
        # The note goes last: should this be killed, the place still is a run's, and the next one clears it.
        for name in sorted(own, key=lambda name: name == RUN_FILE):
            self.place.delete(name)
        self.place.write(RUN_FILE, self.note.model_dump_json(indent=1).encode())

    def find_finished(self, advance: Callable[[int], None]) -> dict[int, ShardManifest]:
        """The shards that are done, each verified by its bytes; one that is damaged is set aside and named.

        Args:
            advance: Told the number of rows of each.
        """
        finished = {}
        for number in range(self.num_shards):
            content = self.place.read(self._manifest_name(number))
            if content is None:
                continue
            manifest = _parse(content)
            if manifest is not None and self._is_whole(number, manifest):
                finished[number] = manifest
                advance(manifest.num_rows)
                continue
            log.warning(
                "predict: shard %s of %s is damaged (%s); it is predicted again",
                self.name(number),
                self.title,
                self.place.set_aside(self.name(number)),
            )
            self.place.delete(self._manifest_name(number))
        return finished

    def publish(self, number: int, path: Path, num_too_long: int, added_columns: tuple[str, ...]) -> ShardManifest:
        """Make a shard appear, and its manifest after it."""
        first = number * self.note.shard_rows
        manifest = ShardManifest(
            key=self.note.key,
            sha256=file_sha256(path),
            first_row=first,
            num_rows=min(self.note.shard_rows, self.note.num_rows - first),
            num_too_long=num_too_long,
            added_columns=added_columns,
        )
        self.place.publish(path, self.name(number), manifest.sha256)
        self.place.write(self._manifest_name(number), manifest.model_dump_json(indent=1).encode())
        return manifest

    def _is_whole(self, number: int, manifest: ShardManifest) -> bool:
        return manifest.key == self.note.key and self.place.is_intact(self.name(number), manifest.sha256)

    def _manifest_name(self, number: int) -> str:
        return f"{NOTES}/{PART}{number:05d}.json"

    def _read_note(self) -> RunNote | None:
        content = self.place.read(RUN_FILE)
        try:
            return None if content is None else RunNote.model_validate_json(content)
        except ValidationError:
            return None  # damaged: as a run of which nothing is known


def _parse(content: bytes) -> ShardManifest | None:
    try:
        return ShardManifest.model_validate_json(content)
    except ValidationError:
        return None
