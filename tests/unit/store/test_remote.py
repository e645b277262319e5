"""The store on S3: what one machine has computed no other computes, and nothing damaged is trusted."""

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from tunesmith.errors import StoreError
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.remote import RemoteStore
from tunesmith.store.remote_folders import RemoteFolders
from tunesmith.store.s3 import Patience, S3Config, split_uri

KEY = "ab" * 16


def text_derivation(text: str, *, built: list[str] | None = None, written: str | None = None, **options) -> Derivation:
    def build(folder: Path) -> dict[str, int]:
        if built is not None:
            built.append(text)
        (folder / "parts").mkdir()
        (folder / "parts" / "note.txt").write_text(written or text)
        (folder / "empty").touch()
        return {"length": len(text)}

    ingredients = compose_ingredients(config={"note": {"text": text}}, inputs={}, code=["tunesmith.store.keys"])
    return Derivation("note", ingredients, build, **options)


def read_note(ref) -> str:
    return (ref.folder / "parts" / "note.txt").read_text()


@pytest.fixture
def machine(bucket, moto_url, tmp_path):
    """A store on the machine of a name."""

    def machine(name: str) -> RemoteStore:
        return RemoteStore(f"{bucket}/team", S3Config(endpoint_url=moto_url), tmp_path / name)

    return machine


@pytest.fixture
def client(connect):
    return connect()


def manifest_of(store: RemoteStore, ref) -> str:
    return f"{store.uri}/artifacts/note/{ref.key}/manifest.json"


def blob_of(store: RemoteStore, ref, name: str = "parts/note.txt") -> str:
    manifest = json.loads((ref.folder / "manifest.json").read_bytes())
    return f"{store.uri}/blobs/{manifest['files'][name]['sha256']}"


def test_what_one_machine_computed_the_other_fetches(machine):
    built: list[str] = []
    first = machine("one").ensure(text_derivation("a", built=built))
    second = machine("two").ensure(text_derivation("a", built=built))
    assert built == ["a"]
    assert (first.is_cached, second.is_cached) == (False, True)
    assert (first.key, first.facts) == (second.key, second.facts)
    assert first.folder != second.folder
    assert read_note(second) == "a"
    assert (second.folder / "empty").read_bytes() == b""


def test_looking_finds_what_the_other_machine_shared(machine):
    assert machine("two").find(text_derivation("a")) is None
    assert machine("two").status(text_derivation("a")).reason == "first time"
    machine("one").ensure(text_derivation("a"))
    assert machine("two").status(text_derivation("a")).ref is not None
    assert machine("three").find(text_derivation("a")) is not None


def test_a_content_addressed_artifact_is_found_by_what_led_to_it(machine):
    built: list[str] = []

    def address(folder: Path) -> str:
        return (folder / "parts" / "note.txt").read_text().strip()

    one, two = machine("one"), machine("two")
    one.ensure(text_derivation("a ", built=built, address=address))
    one.ensure(text_derivation("a", built=built, address=address))
    spaced = two.ensure(text_derivation("a ", built=built, address=address))
    plain = two.ensure(text_derivation("a", built=built, address=address))
    assert built == ["a ", "a"]
    assert spaced.key == plain.key == "a"
    assert (spaced.facts, plain.facts) == ({"length": 2}, {"length": 1})


def test_a_change_is_explained_on_the_machine_that_fetched(machine):
    machine("one").ensure(text_derivation("a"))
    machine("two").ensure(text_derivation("a"))
    assert machine("two").ensure(text_derivation("b")).reason == "note.text: 'a' -> 'b'"


def test_a_damaged_copy_here_is_replaced_by_the_one_there(machine):
    built: list[str] = []
    ref = machine("one").ensure(text_derivation("a", built=built))
    (ref.folder / "parts" / "note.txt").write_text("z")
    again = machine("one").ensure(text_derivation("a", built=built))
    assert read_note(again) == "a"
    assert built == ["a"]
    assert len(list((machine("one").root / "damaged").iterdir())) == 1


@pytest.mark.parametrize("content", [b"z", b"longer", None])
def test_a_damaged_blob_is_set_aside_and_made_again(machine, client, content):
    one = machine("one")
    ref = one.ensure(text_derivation("a"))
    place = blob_of(one, ref)
    client.delete(place) if content is None else client.put(place, content)
    status = machine("two").status(text_derivation("a"))
    assert status.ref is None
    assert status.reason.startswith("damaged: ")
    assert machine("two").ensure(text_derivation("a")).reason == status.reason
    assert client.read_bytes(place) == b"a"
    kept = client.list_keys(f"{one.uri}/damaged/")
    assert any("manifest.json" in key for key in kept)
    if content is not None:
        (damaged,) = [key for key in kept if "manifest.json" not in key]
        bucket, _ = split_uri(one.uri)
        assert client.read_bytes(f"s3://{bucket}/{damaged}") == content
    assert machine("three").ensure(text_derivation("a")).is_cached


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"{}",
        b'{"files": {"../../escaped": {"sha256": "x", "size_bytes": 1}}, "header": {"facts": {}}}',
        b'{"files": {"/escaped": {"sha256": "x", "size_bytes": 1}}, "header": {"facts": {}}}',
        b'{"files": {}, "header": {}}',
    ],
)
def test_a_manifest_that_is_none_is_set_aside(machine, client, manifest):
    one = machine("one")
    ref = one.ensure(text_derivation("a"))
    client.put(manifest_of(one, ref), manifest)
    again = machine("two").ensure(text_derivation("a"))
    assert (again.is_cached, again.reason) == (False, "damaged: manifest.json is unreadable")
    assert machine("three").ensure(text_derivation("a")).is_cached
    assert not list(one.root.parent.rglob("escaped"))


def test_a_manifest_that_turned_into_none_is_put_again_by_who_has_the_artifact(machine, client):
    one = machine("one")
    ref = one.ensure(text_derivation("a"))
    client.put(manifest_of(one, ref), b"{")
    assert one.ensure(text_derivation("a")).is_cached
    assert machine("two").ensure(text_derivation("a")).is_cached


@pytest.mark.parametrize("step", ["blobs", "request", "manifest"])
def test_killed_while_sharing_the_next_run_goes_on(machine, client, monkeypatch, step):
    built: list[str] = []
    one = machine("one")

    def die(*args):
        raise KeyboardInterrupt

    target = {
        "blobs": (one._blobs, "share"),
        "request": (one._client, "put"),
        "manifest": (one._client, "put_if_absent"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*target[step], die)
        with pytest.raises(KeyboardInterrupt):
            one.ensure(text_derivation("a", built=built))
    assert machine("two").find(text_derivation("a")) is None
    assert machine("one").find(text_derivation("a")) is None  # so that the task runs, and shares
    assert machine("one").ensure(text_derivation("a", built=built)).is_cached
    assert machine("two").ensure(text_derivation("a", built=built)).is_cached
    assert built == ["a"]


def test_of_two_machines_that_publish_other_bytes_the_first_ones_stand_on_both(machine):
    one, two = machine("one"), machine("two")

    def build_late(folder: Path) -> dict[str, int]:
        one.ensure(text_derivation("a", written="first"))
        (folder / "parts").mkdir()
        (folder / "parts" / "note.txt").write_text("second")
        return {"length": 7}

    late = Derivation("note", text_derivation("a").ingredients, build_late)
    ref = two.ensure(late)
    assert read_note(ref) == "first"
    assert ref.facts == {"length": 1}
    assert read_note(machine("two").ensure(text_derivation("a"))) == "first"


def test_what_was_fetched_must_still_hold_outside_of_the_store(machine):
    machine("one").ensure(text_derivation("a"))
    built: list[str] = []
    gone = text_derivation("a", built=built, confirm=lambda ref: bool(built))
    assert machine("two").ensure(gone).reason == "what it stands for is gone"
    assert built == ["a"]


def test_a_wiped_folder_here_costs_a_fetch_and_no_computing(machine):
    built: list[str] = []
    machine("one").ensure(text_derivation("a", built=built))
    shutil.rmtree(machine("one").root)
    assert machine("one").ensure(text_derivation("a", built=built)).is_cached
    assert built == ["a"]


def put_chunk(cache: ChunkCache, written: list[bytes], content: bytes = b"rows"):
    def write(path: Path) -> dict[str, int]:
        written.append(content)
        path.write_bytes(content)
        return {"num_rows": 4}

    return cache.ensure("mapped", KEY, ".rows.parquet", write)


def test_a_chunk_that_one_machine_wrote_the_other_fetches(machine, tmp_path):
    written: list[bytes] = []
    one = machine("one").chunks
    put_chunk(one, written)
    assert machine("two").chunks.find("mapped", KEY) is None
    one.share()
    two = machine("two").chunks
    chunk = put_chunk(two, written)
    assert written == [b"rows"]
    assert (chunk.path.read_bytes(), chunk.facts) == (b"rows", {"num_rows": 4})
    two.link(chunk.path, tmp_path / "linked")
    assert (tmp_path / "linked").read_bytes() == b"rows"
    assert ChunkCache(two.root).open(ChunkCache(two.root).find("mapped", KEY)) is not None


def test_chunks_are_shared_when_a_stage_is_done(machine):
    written: list[bytes] = []
    one = machine("one")
    put_chunk(one.chunks, written)
    one.ensure(text_derivation("a"))
    put_chunk(machine("two").chunks, written)
    assert written == [b"rows"]


def test_a_chunk_from_before_the_store_was_shared_is_shared_once_it_is_used(machine):
    written: list[bytes] = []
    put_chunk(ChunkCache(machine("one").root / "chunks"), written)
    one = machine("one").chunks
    put_chunk(one, written)
    one.share()
    put_chunk(machine("two").chunks, written)
    assert written == [b"rows"]


def test_a_damaged_chunk_there_is_set_aside_and_made_again(machine, client):
    written: list[bytes] = []
    one = machine("one")
    chunk = put_chunk(one.chunks, written)
    one.chunks.share()
    client.put(f"{one.uri}/blobs/{chunk.sha256}", b"rowz")
    two = machine("two").chunks
    put_chunk(two, written)
    two.share()
    assert written == [b"rows", b"rows"]
    put_chunk(machine("three").chunks, written)
    assert written == [b"rows", b"rows"]
    assert len(client.list_keys(f"{one.uri}/damaged/")) == 1


@pytest.mark.parametrize("sidecar", [b"", b"{}", b'{"file": "../../x", "sha256": "", "size_bytes": 1, "facts": {}}'])
def test_a_sidecar_there_that_is_none_is_no_chunk(machine, client, sidecar):
    one = machine("one")
    client.put(f"{one.uri}/chunks/mapped/{KEY}.json", sidecar)
    assert one.chunks.find("mapped", KEY) is None


def test_work_that_could_not_be_deleted_there_is_still_known_here(machine, client, monkeypatch):
    store = machine("one")
    (store.work_folder("note", KEY) / "checkpoint").touch()
    client.put(f"{store.uri}/work/note/{KEY}/step-1/manifest.json", b"{}")
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolders, "delete_all", fail)
        store.discard_work("note", KEY)
    assert store.has_work("note", KEY)
    assert [*store.work_folder("note", KEY).iterdir()] == []
    store.discard_work("note", KEY)
    assert not store.has_work("note", KEY)
    assert client.list_keys(f"{store.uri}/work/") == []


def fail(_folders):
    raise StoreError("the server does not answer")


def test_a_store_without_its_bucket_says_so(aws, moto_url, tmp_path):
    store = RemoteStore("s3://no-such-bucket/team", S3Config(endpoint_url=moto_url), tmp_path)
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket'"):
        store.ensure(text_derivation("a"))


def test_the_uri_chooses_the_store(tmp_path):
    store = open_store(StoreConfig(uri="s3://bucket/team", cache=str(tmp_path), recipe="r"))
    assert isinstance(store, RemoteStore)
    assert (store.uri, store.root, store.recipe) == ("s3://bucket/team", tmp_path, "r")
    assert not isinstance(open_store(StoreConfig(uri=str(tmp_path))), RemoteStore)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"uri": "folder", "s3": S3Config()}, r"s3\s+has no effect on a folder"),
        ({"s3": S3Config()}, r"s3\s+has no effect on a folder"),
        ({"uri": "folder", "cache": "here"}, r"cache\s+has no effect on a folder"),
        ({"grace_seconds": 9}, r"grace_seconds\s+has no effect on a folder"),
        ({"uri": "gs://bucket/x"}, "gs:// is not known"),
        ({"uri": "s3://"}, "is no S3 uri"),
        ({"uri": "s3://me:hidden@bucket"}, "holds no credentials"),
    ],
)
def test_a_store_that_cannot_be_is_refused(config, words):
    with pytest.raises(ValueError, match=words) as caught:
        StoreConfig(**config)
    assert "hidden" not in caught.value.errors()[0]["msg"]


def test_what_a_recipe_leaves_out_is_filled_in():
    folder, home = Path("/recipes"), "/home/store"
    assert StoreConfig().located(folder, home, "r") == StoreConfig(uri="/home/store", recipe="r")
    assert StoreConfig(uri="x").located(folder, home, "r").uri == "/recipes/x"
    on_s3 = StoreConfig(uri="s3://bucket/team/", recipe="mine").located(folder, home, "r")
    assert on_s3 == StoreConfig(uri="s3://bucket/team", cache="/home/store", recipe="mine")
    assert StoreConfig(uri="s3://bucket", cache="c").located(folder, home, "r").cache == "/recipes/c"


def _ensure(uri: str, url: str, root: str, barrier, results) -> None:
    def build(folder: Path) -> dict[str, int]:
        (folder / "note.txt").write_text("same")
        barrier.wait()
        return {}

    store = RemoteStore(uri, S3Config(endpoint_url=url), Path(root), patience=Patience(deadline_seconds=30))
    results.put(store.ensure(Derivation("note", text_derivation("a").ingredients, build)).key)


def test_two_machines_that_publish_one_key_at_once_both_succeed(machine, bucket, moto_url, tmp_path, client):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_ensure, args=(f"{bucket}/team", moto_url, str(tmp_path / name), barrier, results))
        for name in ("one", "two")
    ]
    for process in processes:
        process.start()
    keys = {results.get(timeout=240) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(keys) == 1
    assert len(client.list_keys(f"{bucket}/team/artifacts/note/")) == 1
    assert machine("three").ensure(text_derivation("a")).is_cached


def test_what_other_machines_computed_is_listed_and_found_by_its_key(machine):
    first = machine("one").ensure(text_derivation("a"))
    machine("two").ensure(text_derivation("b"))
    third = machine("three")
    requests = third.list_requests("note")
    assert [request.ingredients["config"]["note"]["text"] for request in requests] == ["b", "a"]
    assert requests == third.list_requests("note")
    folder = third.find_folder("note", first.key)
    assert folder is not None
    assert (folder / "parts" / "note.txt").read_text() == "a"
    assert third.find_folder("note", "0" * 32) is None
