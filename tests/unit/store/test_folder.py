"""The store in a folder: found or computed, verified, set aside, published once."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore


def text_derivation(text: str, *, kind: str = "note", built: list[str] | None = None, **options) -> Derivation:
    def build(folder: Path) -> dict[str, int]:
        if built is not None:
            built.append(text)
        (folder / "parts").mkdir()
        (folder / "parts" / "note.txt").write_text(text)
        return {"length": len(text)}

    ingredients = compose_ingredients(config={"note": {"text": text}}, inputs={}, code=["tunesmith.store.keys"])
    return Derivation(kind, ingredients, build, **options)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_an_artifact_is_computed_once_and_then_found(store):
    built: list[str] = []
    first = store.ensure(text_derivation("a", built=built))
    second = store.ensure(text_derivation("a", built=built))
    assert built == ["a"]
    assert (first.is_cached, second.is_cached) == (False, True)
    assert first.key == second.key
    assert second.facts == {"length": 1}
    assert (second.folder / "parts" / "note.txt").read_text() == "a"


def test_a_deleted_artifact_is_computed_again_and_said_so(store):
    ref = store.ensure(text_derivation("a"))
    shutil.rmtree(ref.folder)
    again = store.ensure(text_derivation("a"))
    assert not again.is_cached
    assert again.reason == "its artifact is missing"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_text("b"), "does not match its sha256"),
        (lambda file: file.write_text("longer"), "6 bytes, sealed with 1"),
        (lambda file: file.unlink(), "parts/note.txt is missing"),
        (lambda file: (file.parent.parent / "manifest.json").write_text("{"), "manifest.json is missing or unreadable"),
    ],
)
def test_a_damaged_artifact_is_set_aside_and_computed_again(store, damage, words):
    ref = store.ensure(text_derivation("a"))
    damage(ref.folder / "parts" / "note.txt")
    assert words in store.status(text_derivation("a")).reason
    again = store.ensure(text_derivation("a"))
    assert words in again.reason
    assert (again.folder / "parts" / "note.txt").read_text() == "a"
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_looking_changes_nothing(store):
    ref = store.ensure(text_derivation("a"))
    (ref.folder / "parts" / "note.txt").write_text("b")
    before = sorted(path.as_posix() for path in store.root.rglob("*"))
    assert store.find(text_derivation("a")) is None
    assert store.status(text_derivation("b")).ref is None
    assert sorted(path.as_posix() for path in store.root.rglob("*")) == before


def test_a_failed_build_leaves_nothing_behind(store):
    def build(_folder: Path) -> dict[str, int]:
        raise DataError("no rows")

    derivation = Derivation("note", text_derivation("a").ingredients, build)
    with pytest.raises(DataError, match="no rows"):
        store.ensure(derivation)
    assert not (store.root / "artifacts").exists()
    assert list((store.root / "aside").iterdir()) == []


def test_the_reason_names_what_changed_against_the_nearest_earlier_artifact(store):
    store.ensure(text_derivation("a"))
    assert store.ensure(text_derivation("b")).reason == "note.text: 'a' -> 'b'"


def test_the_first_artifact_of_a_kind_is_the_first_time(store):
    assert store.ensure(text_derivation("a")).reason == "first time"


def test_what_was_found_must_still_hold_outside_of_the_store(store):
    store.ensure(text_derivation("a"))
    gone = text_derivation("a", confirm=lambda ref: False)
    assert store.find(gone) is None
    assert store.ensure(gone).reason == "what it stands for is gone"


def test_a_content_addressed_artifact_is_shared_by_all_that_lead_to_it(store):
    built: list[str] = []

    def address(folder: Path) -> str:
        return (folder / "parts" / "note.txt").read_text().strip()

    spaced = store.ensure(text_derivation("a ", built=built, address=address))
    plain = store.ensure(text_derivation("a", built=built, address=address))
    assert built == ["a ", "a"]
    assert spaced.key == plain.key == "a"
    assert (spaced.facts, plain.facts) == ({"length": 2}, {"length": 1})
    assert store.ensure(text_derivation("a ", built=built, address=address)).facts == {"length": 2}
    assert built == ["a ", "a"]


def _publish(root: str, barrier, results) -> None:
    def build(folder: Path) -> dict[str, int]:
        (folder / "note.txt").write_text("same")
        barrier.wait()
        return {}

    derivation = Derivation("note", text_derivation("a").ingredients, build)
    results.put(FolderStore(Path(root)).ensure(derivation).key)


def test_two_processes_that_publish_one_key_both_succeed(store):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_publish, args=(str(store.root), barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    keys = {results.get(timeout=240) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(keys) == 1
    assert len(list((store.root / "artifacts" / "note").iterdir())) == 1
    assert list((store.root / "aside").iterdir()) == []


def test_a_change_is_explained_against_the_same_recipes_runs(store):
    store.ensure(text_derivation("a"))
    other = FolderStore(store.root, recipe="other")
    assert other.ensure(text_derivation("b")).reason == "first time"
    assert other.ensure(text_derivation("c")).reason == "note.text: 'b' -> 'c'"
    assert other.ensure(text_derivation("a")).is_cached


def test_what_was_computed_is_listed_the_newest_first(tmp_path):
    for recipe, text in (("one", "a"), ("two", "b"), ("one", "c")):
        FolderStore(tmp_path / "store", recipe).ensure(text_derivation(text))
    store = FolderStore(tmp_path / "store", "three")
    requests = store.list_requests("note")
    assert [request.ingredients["config"]["note"]["text"] for request in requests] == ["c", "b", "a"]
    assert [request.recipe for request in requests] == ["one", "two", "one"]
    assert requests[0].facts == {"length": 1}
    assert store.list_requests("nothing") == []


def test_an_artifact_is_found_by_its_key_without_its_bytes_being_looked_at(store):
    ref = store.ensure(text_derivation("a"))
    (ref.folder / "parts" / "note.txt").write_text("damaged")
    assert store.find_folder("note", ref.key) == ref.folder
    assert store.find_folder("note", "0" * 32) is None
    (ref.folder / "manifest.json").unlink()
    assert store.find_folder("note", ref.key) is None
