"""Which snapshots the store has of a recipe, and what belongs to each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunesmith.errors import CallError, TunesmithError
from tunesmith.kinds import Examples, find_kind
from tunesmith.store.derivation import Derivation
from tunesmith.store.folder import FolderStore, Request
from tunesmith.store.keys import KEY_LENGTH, canonical_json
from tunesmith.store.ref import Facts, Ref

SNAPSHOT, SPLIT, QUARANTINE, TRAIN = "snapshot", "split", "quarantine", "train"
MIN_DIGITS = 6
"""How many digits of a key are enough to mean it."""
MAX_CANDIDATES = 10
"""How many keys an error lists."""


@dataclass(frozen=True)
class Version:
    """An artifact that is in the store.

    Attributes:
        ref: Where it lies; its bytes are verified when they are read.
        recipe: The recipe that made it first.
        created_unix: When.
        config: The sections of that recipe which shaped it.
        note: What is to be said of how it was found; empty where it is just what was asked for.
    """

    ref: Ref
    recipe: str
    created_unix: float
    config: Mapping[str, Any]
    note: str = ""

    def describe(self) -> str:
        """The artifact in a phrase."""
        return f"{self.ref.kind} {_describe(self.ref.key, self.recipe, self.created_unix, self.ref.facts)}"

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "key": self.ref.key,
            "recipe": self.recipe,
            "created_unix": self.created_unix,
            "num_rows": self.ref.facts.get("num_rows"),
            "note": self.note,
        }


def find_by_key(store: FolderStore, digits: str, kind: str = SNAPSHOT) -> Version:
    """The artifact whose key begins with some digits.

    Raises:
        CallError: There is none, or there are several; the message lists what there is.
    """
    requests = store.list_requests(kind)
    found = {request.key: request for request in reversed(requests) if request.key.startswith(digits.lower())}
    if len(found) > 1:
        raise CallError(
            f"{len(found)} keys of a {kind} begin with {digits}: {_list(found.values())}. Give more digits."
        )
    if not found:
        raise CallError(f"no {kind} in {store.root} has a key that begins with {digits}; {_offer(requests, kind)}")
    version = _open(store, *found.values())
    if version is None:
        raise CallError(
            f"the {kind} {next(iter(found))} is not in {store.root} any more: `tunesmith run` makes it again."
        )
    return version


def is_key(text: str) -> bool:
    """Whether a text may be a key or the beginning of one.

    Example:
        >>> is_key("3fa9c1"), is_key("recipe.yaml"), is_key("beef")
        (True, False, False)
    """
    return MIN_DIGITS <= len(text) <= KEY_LENGTH and all(char in "0123456789abcdef" for char in text.lower())


def list_versions(store: FolderStore, config: Mapping[str, Any] | None) -> list[Request]:
    """The snapshots that a recipe led to, the newest first: those of its name, and those of its data section.

    Args:
        store: Where to look; it knows the recipe's name.
        config: The sections that shape its snapshot, where they are known.
    """
    wanted = None if config is None else _without_files(config)
    requests = store.list_requests(SNAPSHOT)
    return [r for r in requests if r.recipe == store.recipe or wanted == _without_files(r.ingredients["config"])]


def find_version(store: FolderStore, recipe: str, derive: Callable[[], Derivation]) -> Version:
    """A recipe's snapshot of what its sources hold now, or the newest that there is.

    Args:
        store: Where to look; it knows the recipe's name.
        recipe: The recipe's file, for messages.
        derive: Looks what the sources hold, and describes the snapshot of that.

    Raises:
        CallError: There is none.
    """
    like, problem = None, ""
    try:
        like = derive()
    except TunesmithError as error:
        problem = f"the sources cannot be looked at now ({error})"
    requests = list_versions(store, None if like is None else like.ingredients["config"])
    if like is not None:
        now = _contents(like.ingredients)
        version = _open_first(store, [request for request in requests if _contents(request.ingredients) == now])
        if version is not None:
            return version
        problem = "the sources, or how they are read, changed since"
    version = _open_first(store, requests)
    if version is None:
        raise CallError(f"{recipe} has no snapshot in {store.root} yet: run `tunesmith run {recipe}` first.")
    return replace(version, note=f"the newest that {recipe} led to; {problem}")


def find_previous(store: FolderStore, version: Version, recipe: str) -> Version:
    """The newest snapshot that a recipe led to besides a given one.

    Raises:
        CallError: There is none.
    """
    others = [request for request in list_versions(store, version.config) if request.key != version.ref.key]
    found = _open_first(store, others)
    if found is None:
        raise CallError(
            f"{recipe} has no snapshot in {store.root} besides {version.ref.key}: there is a previous one once its "
            "data changed and it ran again."
        )
    return found


def find_split(store: FolderStore, snapshot: Version, derived: Derivation | None) -> Version:
    """The splits of a snapshot: those that a recipe asks for, or the newest.

    Raises:
        CallError: It was never split.
    """
    requests = [r for r in store.list_requests(SPLIT) if r.ingredients["inputs"]["snapshot"] == snapshot.ref.key]
    asked = [r for r in requests if derived is not None and _contents(r.ingredients) == _contents(derived.ingredients)]
    found = _open_first(store, asked)
    if found is not None:
        return found
    found = _open_first(store, requests)
    if found is None:
        raise CallError(f"snapshot {snapshot.ref.key} was not split yet: run `tunesmith run` on its recipe first.")
    return found if derived is None else replace(found, note="split as an earlier recipe said, not as this one does")


def find_refused(store: FolderStore, version: Version | None, recipe: str) -> Version | None:
    """The quarantine of a recipe's newest run: of its snapshot, or of a run that stopped before there was one.

    Args:
        store: Where to look; it knows the recipe's name.
        version: The recipe's snapshot.
        recipe: The recipe's file, for messages.

    Returns:
        None where the contract refused no row.
    """
    is_current = version is not None and not version.note
    stopped = None if is_current else _find_stopped(store)
    if stopped is None or (version is not None and stopped.created_unix < version.created_unix):
        return None if version is None else find_quarantine(store, version)
    note = f"the newest that {recipe} led to; it has no snapshot: the contract stopped that run, or it was only planned"
    return replace(stopped, note=note)


def find_quarantine(store: FolderStore, version: Version) -> Version | None:
    """The quarantine of a snapshot; None where the contract refused no row."""
    key = _quarantine_key(version.ref.facts)
    return None if key is None else find_by_key(store, key, QUARANTINE)


def find_refused_of_stream(store: FolderStore) -> Version | None:
    """What the contract refused while a recipe's newest training read its stream.

    Returns:
        None where there was no training on a stream yet, or it refused no row.
    """
    requests = [request for request in store.list_requests(TRAIN) if request.recipe == store.recipe]
    trained = _open_first(store, requests[:1])
    refused = {} if trained is None else trained.ref.facts.get("quarantine", {})
    if trained is None or not refused.get("num_rows"):
        return None
    note = "all that the contract refused of the stream while it was trained on"
    return replace(trained, ref=trained.ref.model_copy(update={"facts": refused}), note=note)


def find_columns(snapshot: Version) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that the model reads, and those that training needs; none where its kind is not known any more."""
    kinds: TypeAdapter[Any] = TypeAdapter(Examples)
    try:
        examples = kinds.validate_json(canonical_json(snapshot.config["examples"]))
    except ValidationError:
        return (), ()
    kind = find_kind(examples)
    return kind.input_columns(examples), kind.required_columns(examples)


def _find_stopped(store: FolderStore) -> Version | None:
    """The newest quarantine of a recipe. One is made before its snapshot: what is newer than these has none."""
    requests = [request for request in store.list_requests(QUARANTINE) if request.recipe == store.recipe]
    return _open_first(store, requests[:1])


def _quarantine_key(facts: Facts) -> str | None:
    key: str | None = facts["quarantine"]["key"]
    return key


def _open_first(store: FolderStore, requests: Iterable[Request]) -> Version | None:
    return next((version for request in requests if (version := _open(store, request)) is not None), None)


def _open(store: FolderStore, request: Request) -> Version | None:
    folder = store.find_folder(request.kind, request.key)
    if folder is None:
        return None
    ref = Ref(kind=request.kind, key=request.key, uri=str(folder), facts=dict(request.facts), is_cached=True)
    return Version(ref, request.recipe, request.created_unix, request.ingredients["config"])


def _without_files(config: Mapping[str, Any]) -> str:
    """The sections that shape a snapshot, without the files that they led to."""
    data = {name: value for name, value in config["data"].items() if name != "files"}
    return canonical_json({**config, "data": data})


def _contents(ingredients: Mapping[str, Any]) -> str:
    """What was asked for, whatever code answered."""
    return canonical_json([ingredients["config"], ingredients["inputs"]])


def _list(requests: Iterable[Request]) -> str:
    shown = {r.key: _describe(r.key, r.recipe, r.created_unix, r.facts) for r in requests}
    more = f", and {len(shown) - MAX_CANDIDATES} more" if len(shown) > MAX_CANDIDATES else ""
    return ", ".join([*shown.values()][:MAX_CANDIDATES]) + more


def _offer(requests: list[Request], kind: str) -> str:
    return f"there are {_list(requests)}." if requests else f"there is no {kind} yet: run `tunesmith run RECIPE` first."


def _describe(key: str, recipe: str, created_unix: float, facts: Mapping[str, Any]) -> str:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(created_unix))
    num_rows = facts.get("num_rows")
    rows = f", {num_rows:,} {'row' if num_rows == 1 else 'rows'}" if isinstance(num_rows, int) else ""
    return f"{key} ({recipe or 'no recipe'}, {made}{rows})"
