"""The store in a folder.

artifacts/<kind>/<key>/     sealed folders
chunks/<kind>/<..>/         what artifacts are put together from
requests/<kind>/<key>.json  ingredients once used, and the key of the artifact that they led to
damaged/                    what did not match its manifest, set aside
aside/                      what is being written; what a killed process left there is deleted
work/<kind>/<key>/          scratch that survives a crash: checkpoints
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.store.aside import discard_leftovers, open_aside
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.derivation import Derivation, Ingredients, describe_difference
from tunesmith.store.disk import told_in_words
from tunesmith.store.ref import Facts, Ref
from tunesmith.store.sealed import find_damage, publish, read_manifest, seal, write_json_atomically

if TYPE_CHECKING:
    from tunesmith.store.remote_folders import RemoteFolders

log = logging.getLogger(__name__)

GONE = "what it stands for is gone"
"""Why an intact artifact is made again."""


@dataclass(frozen=True)
class Status:
    """What the store knows of a derivation, without changing anything.

    Attributes:
        ref: The artifact, where it is there and intact.
        reason: Why it must be computed; empty when it is there.
    """

    ref: Ref | None
    reason: str


@dataclass(frozen=True)
class Request:
    """Ingredients that were used once, and what they led to.

    Attributes:
        kind: The stage.
        key: The artifact's key; it may be gone by now.
        recipe: The recipe that asked first.
        facts: What is known of the artifact.
        ingredients: What it was made of.
        created_unix: When.
    """

    kind: str
    key: str
    recipe: str
    facts: Facts
    ingredients: Ingredients
    created_unix: float


class FolderStore:
    """A content-addressed store in a local folder.

    Args:
        root: The folder.
        recipe: The recipe whose earlier runs a change is explained against; artifacts are shared by all recipes.
    """

    def __init__(self, root: Path, recipe: str = "") -> None:
        self.root = root
        self.recipe = recipe

    @cached_property
    def chunks(self) -> ChunkCache:
        """The chunks that artifacts are put together from."""
        return ChunkCache(self.root / "chunks")

    def status(self, derivation: Derivation) -> Status:
        """Look a derivation up and verify every byte of its artifact; change nothing."""
        key = self._artifact_key(derivation)
        if key is None:
            return Status(None, self._explain(derivation))
        folder = self._folder(derivation.kind, key)
        if not folder.exists():
            return Status(None, self._explain(derivation))
        damage = find_damage(folder)
        if damage is not None:
            return Status(None, f"damaged: {damage}")
        return Status(self._found(derivation, key), "")

    def find(self, derivation: Derivation) -> Ref | None:
        """The intact artifact of a derivation that still holds outside of the store, or None; change nothing."""
        ref, _ = self._look_up(derivation)
        return ref

    def ensure(self, derivation: Derivation) -> Ref:
        """The artifact of a derivation: found and verified, or computed and published.

        A damaged artifact is set aside first.

        Raises:
            FullDiskError: There is no room for it.
            StoreError: The store cannot be written.
            TunesmithError: What the derivation's `build` raises.
        """
        start = time.perf_counter()
        found, reason = self._look_up(derivation)
        if found is not None:
            return found.model_copy(update={"seconds": time.perf_counter() - start})
        with told_in_words(self.root):
            discard_leftovers(self.root)
            self._set_aside(derivation, reason)
            log.info("%s: computing, %s", derivation.kind, reason)
            ref = self._compute(derivation)
        return ref.model_copy(update={"reason": reason, "seconds": time.perf_counter() - start})

    def list_requests(self, kind: str) -> list[Request]:
        """What was ever computed of a kind, by whichever recipe; the newest first."""
        found = []
        for path in (self.root / "requests" / kind).glob("*.json"):
            request = _read_json(path)
            if request is not None:
                created = request.get("created_unix", path.stat().st_mtime)
                facts, ingredients = request["facts"], request["ingredients"]
                found.append(Request(kind, request["key"], request["recipe"], facts, ingredients, created))
        return sorted(found, key=lambda request: (-request.created_unix, request.key))

    def find_folder(self, kind: str, key: str) -> Path | None:
        """The folder of an artifact that is there; its files' bytes are not looked at, so verify what you read."""
        folder = self._folder(kind, key)
        return folder if read_manifest(folder) is not None else None

    @contextmanager
    def aside(self) -> Iterator[Path]:
        """A new, empty folder on the store's file system, gone at the end unless it was published."""
        with open_aside(self.root) as folder:
            yield folder

    def work_folder(self, derivation_kind: str, key: str) -> Path:
        """A folder for work that continues after a crash; whoever finishes the work deletes it."""
        folder = self._work_folder(derivation_kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def open_mirror(self, derivation_kind: str, key: str) -> RemoteFolders | None:
        """Where work that is under way leaves what another machine needs; None where no other machine looks."""
        return None

    def discard_work(self, derivation_kind: str, key: str) -> None:
        """Delete a work folder: its work is done."""
        shutil.rmtree(self._work_folder(derivation_kind, key), ignore_errors=True)

    def has_work(self, derivation_kind: str, key: str) -> bool:
        """Whether there is a work folder."""
        return self._work_folder(derivation_kind, key).exists()

    def _work_folder(self, derivation_kind: str, key: str) -> Path:
        return self.root / "work" / derivation_kind / key

    def _look_up(self, derivation: Derivation) -> tuple[Ref | None, str]:
        status = self.status(derivation)
        if status.ref is None:
            return None, status.reason
        if derivation.confirm is not None and not derivation.confirm(status.ref):
            return None, GONE
        return status.ref, ""

    def _compute(self, derivation: Derivation) -> Ref:
        with self.aside() as aside:
            facts = dict(derivation.build(aside))
            key = derivation.key if derivation.address is None else derivation.address(aside)
            seal(aside, {"kind": derivation.kind, "key": key, "facts": facts, "created_unix": time.time()})
            self._publish(derivation.kind, key, aside)
        self._write_request(derivation, key, facts)
        return Ref(kind=derivation.kind, key=key, uri=str(self._folder(derivation.kind, key)), facts=facts)

    def _write_request(self, derivation: Derivation, key: str, facts: Facts) -> None:
        request = {
            "recipe": self.recipe,
            "key": key,
            "created_unix": time.time(),
            "facts": dict(facts),
            "ingredients": derivation.ingredients,
        }
        write_json_atomically(self._request(derivation), request)

    def _publish(self, kind: str, key: str, aside: Path) -> None:
        """Two writers of one key: the first one's artifact stands, both succeed."""
        folder = self._folder(kind, key)
        while not publish(aside, folder):
            damage = find_damage(folder)
            if damage is None:
                return
            self._move_to_damaged(kind, key, damage)

    def _artifact_key(self, derivation: Derivation) -> str | None:
        if derivation.address is None:
            return derivation.key
        request = _read_json(self._request(derivation))
        return None if request is None else str(request["key"])

    def _found(self, derivation: Derivation, key: str) -> Ref:
        folder = self._folder(derivation.kind, key)
        manifest = read_manifest(folder)
        request = _read_json(self._request(derivation)) or (manifest.header if manifest else {})
        return Ref(kind=derivation.kind, key=key, uri=str(folder), facts=request["facts"], is_cached=True)

    def _explain(self, derivation: Derivation) -> str:
        if self._request(derivation).exists():
            return "its artifact is missing"
        earlier = [
            describe_difference(past, derivation.ingredients) for past in self._past_ingredients(derivation.kind)
        ]
        nearest = min(earlier, key=len, default=None)
        return "first time" if nearest is None else "; ".join(nearest)

    def _past_ingredients(self, kind: str) -> Iterator[Ingredients]:
        paths = (self.root / "requests" / kind).glob("*.json")
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            request = _read_json(path)
            if request is not None and request.get("recipe") == self.recipe:
                yield request["ingredients"]

    def _set_aside(self, derivation: Derivation, reason: str) -> None:
        key = self._artifact_key(derivation)
        if key is None or not self._folder(derivation.kind, key).exists():
            return
        self._move_to_damaged(derivation.kind, key, reason)

    def _move_to_damaged(self, kind: str, key: str, reason: str) -> None:
        target = self.root / "damaged" / f"{kind}-{key}-{time.time_ns()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._folder(kind, key).rename(target)
        except FileNotFoundError:
            return  # another process set it aside first
        log.warning("%s %s: %s; set aside in %s", kind, key, reason, target)

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "artifacts" / kind / key

    def _request(self, derivation: Derivation) -> Path:
        return self.root / "requests" / derivation.kind / f"{derivation.key}.json"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return value
