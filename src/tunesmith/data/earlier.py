"""The snapshots that a new one is compared with: the last one of its recipe, and the champion's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from tunesmith.data.drift import DriftReport, compare_profiles, log_warnings
from tunesmith.data.profile import PROFILE, Profile, Truncation, parse_profile
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import KEY_LENGTH
from tunesmith.store.sealed import find_file_damage, read_manifest

LAST, CHAMPION = "the last snapshot", "the champion's snapshot"
BOTH = "the last snapshot, which is the champion's"


@dataclass(frozen=True)
class Earlier:
    """A snapshot that is compared with.

    Attributes:
        against: What to call it.
        key: Its key.
        profile: What it held.
    """

    against: str
    key: str
    profile: Profile


def find_earlier_profiles(
    store: FolderStore, snapshot_key: str, champion_digest: str | None = None
) -> tuple[Earlier, ...]:
    """The profiles of the last other snapshot of the store's recipe, and of the champion's: what is still there.

    Args:
        store: The store.
        snapshot_key: The snapshot that they are earlier than.
        champion_digest: The sha256 of the rows behind the champion, where there is one.
    """
    last = _find_last(store, snapshot_key)
    champion_key = None if champion_digest is None else champion_digest[:KEY_LENGTH]
    if champion_key is None or champion_key == snapshot_key:
        return () if last is None else (last,)
    if last is not None and last.key == champion_key:
        return (replace(last, against=BOTH),)
    champion = load_profile(store, champion_key)
    found = [last, None if champion is None else Earlier(CHAMPION, champion_key, champion)]
    return tuple(earlier for earlier in found if earlier is not None)


def compare_with_earlier(
    profile: Profile, earlier: Collection[Earlier], labels: Collection[str] = ()
) -> tuple[DriftReport, ...]:
    """Compare a snapshot with earlier ones.

    Args:
        profile: What it holds.
        earlier: What they held.
        labels: Columns that hold labels.
    """
    return tuple(compare_profiles(past.profile, profile, against=past.against, labels=labels) for past in earlier)


def warn_of_drift(profile: Profile, snapshot_key: str, store: FolderStore, labels: Collection[str] = ()) -> None:
    """Log how a new snapshot differs from the last one of its recipe, before anything is made of it."""
    log_warnings(compare_with_earlier(profile, find_earlier_profiles(store, snapshot_key), labels))


def load_profile(store: FolderStore, snapshot_key: str) -> Profile | None:
    """The profile of a snapshot that is in the store, with what encoding its rows cut off; None where it is not."""
    folder = store.find_folder("snapshot", snapshot_key)
    manifest = None if folder is None else read_manifest(folder)
    sealed = None if manifest is None else manifest.files.get(PROFILE)
    if folder is None or sealed is None or find_file_damage(folder, PROFILE, sealed) is not None:
        return None
    profile = parse_profile((folder / PROFILE).read_bytes())
    if profile is None:
        return None
    return profile.model_copy(update={"truncation": find_truncation(store, snapshot_key)})


def find_truncation(store: FolderStore, snapshot_key: str, candidate_key: str | None = None) -> Truncation | None:
    """What encoding the rows of a snapshot cut off, as the store remembers it.

    Args:
        store: The store.
        snapshot_key: The snapshot.
        candidate_key: The candidate whose features are meant; by default the features that were made last.
    """
    splits = {
        request.key
        for request in store.list_requests("split")
        if request.ingredients["inputs"]["snapshot"] == snapshot_key
    }
    trained = {
        request.ingredients["inputs"]["features"]
        for request in store.list_requests("train")
        if request.key == candidate_key
    }
    encoded = [
        request
        for request in store.list_requests("encode")
        if request.ingredients["inputs"]["splits"] in splits and (not trained or request.key in trained)
    ]
    return Truncation.from_facts(encoded[0].facts) if encoded else None


def _find_last(store: FolderStore, snapshot_key: str) -> Earlier | None:
    for request in store.list_requests("snapshot"):
        if request.recipe == store.recipe and request.key != snapshot_key:
            profile = load_profile(store, request.key)
            if profile is not None:
                return Earlier(LAST, request.key, profile)
    return None
