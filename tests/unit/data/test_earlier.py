"""The snapshots that a new one is compared with."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tunesmith.data.earlier import (
    BOTH,
    CHAMPION,
    LAST,
    find_earlier_profiles,
    find_truncation,
    load_profile,
    warn_of_drift,
)
from tunesmith.data.profile import PROFILE, Profile, merge_profiles, profile_part
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

COUNTS = ("num_rows", "num_truncated", "num_dropped", "num_tokens_read", "num_tokens_lost")


def make_profile(*labels: str) -> Profile:
    return merge_profiles([profile_part(pa.table({"label": [*labels]}))])


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ensure(store: FolderStore, kind: str, inputs: dict[str, str], build: Callable[[Path], Facts], key: str = "") -> Ref:
    ingredients = compose_ingredients(config={}, inputs=inputs, code=())
    return store.ensure(Derivation(kind, ingredients, build, address=(lambda _: key) if key else None))


def add_snapshot(root: Path, name: str, *labels: str, recipe: str = "ours") -> Ref:
    def build(folder: Path) -> Facts:
        (folder / PROFILE).write_text(make_profile(*labels).model_dump_json())
        return {"digest": digest_of(name)}

    return ensure(FolderStore(root, recipe), "snapshot", {"file": name}, build, digest_of(name)[:32])


def add_stage(store: FolderStore, kind: str, inputs: dict[str, str], facts: dict[str, Any]) -> Ref:
    return ensure(store, kind, inputs, lambda _: facts)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path, "ours")


def test_the_first_snapshot_has_none_before_it(store):
    assert find_earlier_profiles(store, "0" * 32) == ()
    first = add_snapshot(store.root, "first", "a")
    assert find_earlier_profiles(store, first.key) == ()


def test_the_last_is_the_newest_other_snapshot_of_this_recipe(store):
    add_snapshot(store.root, "first", "a")
    second = add_snapshot(store.root, "second", "b")
    add_snapshot(store.root, "theirs", "c", recipe="theirs")
    (found,) = find_earlier_profiles(store, "0" * 32)
    assert (found.against, found.key, found.profile) == (LAST, second.key, make_profile("b"))
    (found,) = find_earlier_profiles(store, second.key)
    assert found.profile == make_profile("a")


def test_the_champions_snapshot_is_found_by_its_digest_whichever_recipe_made_it(store):
    last = add_snapshot(store.root, "last", "a")
    add_snapshot(store.root, "theirs", "c", recipe="theirs")
    found = find_earlier_profiles(store, "0" * 32, digest_of("theirs"))
    assert [(earlier.against, earlier.profile) for earlier in found] == [
        (LAST, make_profile("a")),
        (CHAMPION, make_profile("c")),
    ]
    (both,) = find_earlier_profiles(store, "0" * 32, digest_of("last"))
    assert (both.against, both.key) == (BOTH, last.key)


def test_a_champion_of_the_same_rows_or_of_rows_that_are_gone_is_not_compared_with(store):
    last, now = add_snapshot(store.root, "last", "a"), add_snapshot(store.root, "now", "b")
    for digest in (digest_of("now"), digest_of("gone")):
        (found,) = find_earlier_profiles(store, now.key, digest)
        assert (found.against, found.key) == (LAST, last.key)


def test_a_damaged_profile_is_passed_over(store):
    add_snapshot(store.root, "first", "a")
    second = add_snapshot(store.root, "second", "b")
    (second.folder / PROFILE).write_text(make_profile("forged").model_dump_json())
    assert load_profile(store, second.key) is None
    (found,) = find_earlier_profiles(store, "0" * 32)
    assert found.profile == make_profile("a")


def test_what_encoding_cut_off_is_found_by_the_snapshot_and_the_candidate(store):
    snapshot = add_snapshot(store.root, "first", "a")
    splits = add_stage(store, "split", {"snapshot": snapshot.key}, {})
    other = add_stage(store, "split", {"snapshot": "f" * 32}, {})
    encoded = {}
    for name, inputs, lost in (("long", splits.key, 1), ("short", splits.key, 9), ("other", other.key, 5)):
        facts = {count: {"train": lost} for count in COUNTS}
        encoded[name] = add_stage(store, "encode", {"splits": inputs, "tokenizer": name}, facts)
    candidate = add_stage(store, "train", {"features": encoded["long"].key}, {})
    newest = find_truncation(store, snapshot.key)
    assert newest is not None
    assert newest.num_tokens_lost == 9
    chosen = find_truncation(store, snapshot.key, candidate.key)
    assert chosen is not None
    assert chosen.num_tokens_lost == 1
    loaded = load_profile(store, snapshot.key)
    assert loaded is not None
    assert loaded.truncation == newest
    assert find_truncation(store, "0" * 32) is None


def test_a_new_label_is_logged_before_anything_is_made_of_the_snapshot(store, caplog):
    add_snapshot(store.root, "first", "a", "a", "b", "b")
    with caplog.at_level(logging.WARNING):
        warn_of_drift(make_profile("a", "a", "c", "c"), "0" * 32, store)
    assert "snapshot, against the last snapshot: column 'label' has 1 new value: 'c' (2 rows)." in caplog.messages
