"""Checkpoints: sealed folders of one training, of which the newest valid one is continued.

checkpoints/step-00000100/   sealed: whatever the engine needs, position.json and the spool so far
damaged/                     what did not match its manifest
aside/                       what is being written or deleted
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import TrainingError
from tunesmith.store.sealed import find_damage, publish, read_manifest, seal
from tunesmith.training.best import Best

log = logging.getLogger(__name__)

NUM_KEPT = 2
"""The newest, and one more in case that it is damaged."""

POSITION = "position.json"
SPOOL = "metrics.jsonl"
QUARANTINE = "quarantine"


class Position(BaseModel):
    """Where a training stands, beside the state of the model and the optimizer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    step: int = 0
    """Steps taken."""
    num_validated_epochs: int = 0
    """Epochs whose validation loss is in the spool."""
    seconds: float = 0.0
    """Time spent in training so far, over all attempts."""
    meter: dict[str, Any] = {}
    """Losses that no row has yet told, in full precision."""
    stream: dict[str, Any] | None = None
    """Behind which batch of a stream it stands."""
    best: Best = Best()
    """Which validation was the best."""
    max_micro_batch_tokens: int | None = None
    """Most tokens that go through the model at once: what the recipe says, or less, where the memory ran out."""
    kept_step: int | None = None
    """The step of a checkpoint that this one needs, because its model may be the result."""
    has_ended: bool = False
    """Whether a callback has ended the training here, behind its validation."""


def read_position(checkpoint: Path) -> Position:
    """The position that a checkpoint was written at."""
    return Position.model_validate_json((checkpoint / POSITION).read_bytes())


def copy_quarantine(folder: Path, target: Path) -> None:
    """Copy what was refused of a stream. No second names: what damages one copy must leave the others."""
    for path in sorted(folder.glob("*.parquet")):
        target.mkdir(exist_ok=True)
        shutil.copyfile(path, target / path.name)


def restore_quarantine(checkpoint: Path | None, target: Path) -> None:
    """Go back to what was refused up to a checkpoint, which is verified; what was refused since is read again.

    A file that was not synced before the power failed may be there, and empty.
    """
    shutil.rmtree(target, ignore_errors=True)
    if checkpoint is not None:
        copy_quarantine(checkpoint / QUARANTINE, target)


class Checkpoints:
    """The checkpoints in one work folder. As a context, it ends when the last one is published."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "checkpoints"
        self._damaged = work / "damaged"
        self._aside = work / "aside"
        self._sealer: ThreadPoolExecutor | None = None
        self._sealing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.wait()

    def find_newest(self) -> Path | None:
        """The newest checkpoint of which every byte is as sealed; damaged ones are set aside.

        One whose best model is gone or damaged is set aside, too: going on from there could not end as it should.
        """
        self._publish_what_is_sealed()
        shutil.rmtree(self._aside, ignore_errors=True)
        for folder in reversed(self._all()):
            damage = find_damage(folder) or self._find_damage_of_kept(folder)
            if damage is None:
                return folder
            target = self._damaged / f"{folder.name}-{uuid.uuid4().hex[:8]}"
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            log.warning("train: checkpoint %s: %s; set aside in %s, using an older one", folder.name, damage, target)
        return None

    def newest(self) -> Path | None:
        """The newest checkpoint, as it was written; its bytes are not looked at."""
        return next(reversed(self._all()), None)

    def at(self, step: int) -> Path:
        """Where the checkpoint of a step lies, if there is one."""
        return self._folder / f"step-{step:08d}"

    def find_step(self, step: int) -> Path:
        """The checkpoint of a step, whose bytes are verified.

        Raises:
            TrainingError: It is gone or damaged.
        """
        folder = self.at(step)
        damage = find_damage(folder)
        if damage is not None:
            raise TrainingError(
                f"the checkpoint with the best model, {folder}, cannot be used: {damage}. Run again: training goes on "
                "from an older checkpoint."
            )
        return folder

    def publish(self, folder: Path, position: Position, spool: Path, quarantine: Path) -> None:
        """Make a checkpoint of a folder that the engine has written.

        The training goes on while its files are hashed and synced: until that is done, the one before is the newest.

        Args:
            folder: Not yet visible: see `aside`.
            position: Where the training stands.
            spool: The rows so far.
            quarantine: The folder with what was refused of a stream so far; another machine may go on.

        Raises:
            Exception: What went wrong with the one before.
        """
        self.wait()
        (folder / POSITION).write_text(position.model_dump_json(indent=1), encoding="utf-8")
        shutil.copyfile(spool, folder / SPOOL)
        if self._sealer is None:
            self._sealer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._sealing = self._sealer.submit(self._seal, folder, position.step, quarantine)

    def wait(self) -> None:
        """Wait until the last checkpoint is published.

        Raises:
            Exception: What went wrong with it.
        """
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _seal(self, folder: Path, step: int, quarantine: Path) -> None:
        copy_quarantine(quarantine, folder / QUARANTINE)  # with what was read ahead meanwhile
        seal(folder, {"step": step})
        self.adopt(folder, step)

    def make_room(self) -> None:
        """Delete the checkpoints that are needed no longer; the engine is about to write another.

        Not sooner: the memory in which the system holds their files is then there for the new ones. A virtual machine
        would meanwhile give it back, and get it anew page by page, which takes longer than all else in writing.
        """
        found = self._all()
        kept = {*found[-NUM_KEPT:], *self._kept_by(found[-NUM_KEPT:])}
        for folder in found:
            if folder not in kept:
                self._delete(folder)

    def adopt(self, folder: Path, step: int) -> Path:
        """Make a sealed folder the checkpoint of a step, in place of one that is there."""
        final = self.at(step)
        replaced = self._take_away(final) if final.exists() else None
        publish(folder, final)
        if replaced is not None:
            shutil.rmtree(replaced)
        return final

    def new_aside(self) -> Path:
        """A new, empty folder for what is not yet visible."""
        folder = self._aside / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def aside(self, step: int) -> Path:
        """The folder that all processes fill with what they have for the checkpoint of a step."""
        folder = self._aside / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _publish_what_is_sealed(self) -> None:
        """Where publishing was cut short: between its two moves, the checkpoint that is replaced lies aside, too."""
        written = [*self._aside.glob("step-*"), *self._aside.glob("*/checkpoint-*")]  # by one engine or the other
        for folder in (*written, *self._aside.glob("*")):  # the new one first
            manifest, newest = read_manifest(folder), self.newest()
            step = None if manifest is None else manifest.header.get("step")
            if step is not None and (newest is None or newest < self.at(step)) and find_damage(folder) is None:
                publish(folder, self.at(step))

    def _find_damage_of_kept(self, folder: Path) -> str | None:
        kept_step = read_position(folder).kept_step
        if kept_step is None or self.at(kept_step) == folder:
            return None
        damage = find_damage(self.at(kept_step))
        return None if damage is None else f"the best model, of step {kept_step}: {damage}"

    def _kept_by(self, folders: Sequence[Path]) -> set[Path]:
        """The checkpoints that others need; what is damaged needs none."""
        kept = set[Path]()
        for folder in folders:
            with suppress(OSError, ValidationError):
                step = read_position(folder).kept_step
                kept |= set() if step is None else {self.at(step)}
        return kept

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))

    def _delete(self, folder: Path) -> None:
        shutil.rmtree(self._take_away(folder))

    def _take_away(self, folder: Path) -> Path:
        """Move a checkpoint aside, in one step: a deletion that is cut short must not look like damage."""
        target = self._aside / uuid.uuid4().hex
        target.parent.mkdir(parents=True, exist_ok=True)
        return folder.rename(target)
