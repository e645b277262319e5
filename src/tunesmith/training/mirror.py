"""Checkpoints on S3, where the store is there: a machine with an empty disk goes on from the newest of them.

A mirrored checkpoint is called step-00000200-<hash>, or step-00000200-best-00000150-<hash> where the best model so far
is that of step 150 and so the checkpoint of step 150 is needed, too. Two machines that train one candidate at once
write different names; the one that is behind writes nothing, and what is older than the newest two goes, whoever wrote
it. What one of them fetches is whole and verified, or is not used.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith.store.blobs import DamagedBlob
from tunesmith.store.remote_folders import DIGEST_LENGTH, RemoteFolders
from tunesmith.store.sealed import find_damage
from tunesmith.training.checkpoints import NUM_KEPT, Checkpoints, Position, read_position

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d{8})(?:-best-(\d{8}))?-[0-9a-f]{" + str(DIGEST_LENGTH) + "}")


@dataclass(frozen=True)
class Mirrored:
    """A checkpoint on S3, as its name tells.

    Attributes:
        name: Its name.
        step: The step that it was written after.
        kept_step: The step of the checkpoint that it needs.
        is_whole: Whether it has its manifest.
    """

    name: str
    step: int
    kept_step: int | None
    is_whole: bool


class CheckpointMirror:
    """The checkpoints of one training, here and on S3.

    Args:
        folders: Where they lie on S3.
        checkpoints: Where they lie here.
        held: A folder for the second names of files that are being uploaded.

    Attributes:
        newest_seen: The checkpoint here that needs no uploading any more.
    """

    def __init__(self, folders: RemoteFolders, checkpoints: Checkpoints, held: Path) -> None:
        self.folders = folders
        self._checkpoints = checkpoints
        self._held = held
        self.newest_seen: Path | None = None
        self._unusable: set[str] = set()

    def fetch_newer(self, step: int) -> Path | None:
        """The newest usable checkpoint there, brought here; None where none is newer than `step`."""
        while True:  # listed again after each that was not usable: another machine may be at work there
            newer = [mirrored for mirrored in self._find_usable() if mirrored.step > step]
            if not newer:
                return None
            newest = newer[-1]
            try:
                if newest.kept_step is not None:
                    self._fetch_kept(newest.kept_step)
                return self._fetch(newest)
            except DamagedBlob as error:
                self._unusable.add(newest.name)
                place = f"{self.folders.uri}/{newest.name}"
                log.warning("train: checkpoint %s: %s; using an older one", place, error)

    @property
    def is_current(self) -> bool:
        """Whether there is no checkpoint here that still has to be uploaded."""
        return self._checkpoints.newest() in (None, self.newest_seen)

    def upload_newest(self) -> None:
        """Bring the newest checkpoint there, unless one there is as new, and delete there what that makes superfluous.

        Raises:
            TunesmithError: The server refuses us, or does not answer.
        """
        newest = self._checkpoints.newest()
        if newest is None or self.is_current:
            return
        shutil.rmtree(self._held, ignore_errors=True)  # of an upload that was cut short
        try:
            held = self._hold(newest)
            position = read_position(held)
            usable = self._find_usable()
            if not usable or usable[-1].step < position.step:
                needed = _find_needed(position)
                if needed is not None and needed not in {mirrored.step for mirrored in usable}:
                    self._upload(self._hold(self._checkpoints.at(needed)))
                self._upload(held)
                self._prune()
        except FileNotFoundError:
            return  # deleted or replaced before it was held: there is a newer one
        finally:
            shutil.rmtree(self._held, ignore_errors=True)
        self.newest_seen = newest

    def _hold(self, checkpoint: Path) -> Path:
        """Give the files of a checkpoint second names, so that training may delete it while it is uploaded."""
        held, seen = self._held / checkpoint.name, checkpoint.stat()
        for file in (path for path in sorted(checkpoint.rglob("*")) if path.is_file()):
            target = held / file.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(file)
            except FileNotFoundError:
                raise
            except OSError:  # a file system without links
                shutil.copyfile(file, target)
        if not os.path.samestat(checkpoint.stat(), seen):
            raise FileNotFoundError(f"{checkpoint}: replaced meanwhile")
        return held

    def _upload(self, held: Path) -> None:
        position = read_position(held)
        needed = _find_needed(position)
        best = "" if needed is None else f"-best-{needed:08d}"
        self.folders.upload(held, f"step-{position.step:08d}{best}")
        log.debug("train: the checkpoint of step %d is in %s", position.step, self.folders.uri)

    def _prune(self) -> None:
        found = self._find_all()
        usable = [mirrored for mirrored in found if self._is_usable(mirrored)]
        steps = sorted({mirrored.step for mirrored in usable})[-NUM_KEPT:]
        kept = {*steps, *(mirrored.kept_step for mirrored in usable if mirrored.step in steps)}
        for mirrored in found:
            if mirrored.step not in kept and mirrored.step < steps[-1]:
                self.folders.delete(mirrored.name)

    def _fetch(self, mirrored: Mirrored) -> Path:
        aside = self._checkpoints.new_aside()
        try:
            self.folders.fetch(mirrored.name, aside)
            log.info("train: fetched the checkpoint of step %d from %s", mirrored.step, self.folders.uri)
            return self._checkpoints.adopt(aside, mirrored.step)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _fetch_kept(self, kept_step: int) -> None:
        """The checkpoint that another one needs. Any of its step will do: one step, one model."""
        if find_damage(self._checkpoints.at(kept_step)) is None:
            return
        for mirrored in self._find_usable():
            if mirrored.step == kept_step:
                self._fetch(mirrored)
                return
        raise DamagedBlob("", f"the best model, of step {kept_step}, is not there")

    def _find_usable(self) -> list[Mirrored]:
        """What is whole there and was not found to be damaged, the newest last."""
        return [mirrored for mirrored in self._find_all() if self._is_usable(mirrored)]

    def _is_usable(self, mirrored: Mirrored) -> bool:
        return mirrored.is_whole and mirrored.name not in self._unusable

    def _find_all(self) -> list[Mirrored]:
        found = []
        for name, is_whole in sorted(self.folders.find_all().items()):
            parts = NAME.fullmatch(name)
            if parts is not None:
                kept_step = None if parts[2] is None else int(parts[2])
                found.append(Mirrored(name, int(parts[1]), kept_step, is_whole))
        return found


def _find_needed(position: Position) -> int | None:
    """The step of another checkpoint that one needs."""
    return position.kept_step if position.kept_step != position.step else None
