"""The chunk cache: found by key, verified when used, made again when damaged."""

import errno
import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest
import xxhash

from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.folder import FolderStore

KEY = "ab" * 16


@pytest.fixture
def cache(tmp_path: Path) -> ChunkCache:
    return FolderStore(tmp_path / "store").chunks


def put(cache: ChunkCache, content: bytes = b"rows", key: str = KEY) -> Chunk:
    def write(path: Path) -> dict[str, int]:
        path.write_bytes(content)
        return {"num_rows": len(content)}

    return cache.put("mapped", key, ".parquet", write)


def sidecar_of(chunk: Chunk) -> Path:
    return chunk.path.with_suffix(".json")


def test_a_chunk_is_found_under_its_key_with_its_facts(cache):
    chunk = put(cache)
    assert cache.find("mapped", KEY) == chunk
    assert chunk.facts == {"num_rows": 4}
    assert cache.open(chunk) == cache.root / "mapped" / "ab" / f"{KEY}.parquet"
    assert cache.find("mapped", "cd" * 16) is None
    assert cache.find("raw", KEY) is None


def test_a_chunk_is_written_once(cache):
    written = []

    def write(path: Path) -> None:
        written.append(path)
        path.write_bytes(b"rows")

    first = cache.ensure("raw", KEY, ".arrow", write)
    assert cache.ensure("raw", KEY, ".arrow", write) == first
    assert len(written) == 1
    assert first.facts == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"rowz"),
        lambda path: path.write_bytes(b"longer"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_damaged_chunk_is_set_aside_and_made_again(cache, damage, caplog):
    chunk = put(cache)
    damage(chunk.path)
    damaged = chunk.path.read_bytes()
    assert cache.open(chunk) is None
    assert [path.read_bytes() for path in (cache.root.parent / "damaged").iterdir()] == [damaged]
    assert "does not match its sha256" in caplog.text
    again = cache.ensure("mapped", KEY, ".parquet", lambda path: path.write_bytes(b"rows") and None)
    assert again.path.read_bytes() == b"rows"


def test_a_chunk_whose_bytes_are_gone_is_made_again(cache):
    chunk = put(cache)
    chunk.path.unlink()
    assert cache.open(chunk) is None
    assert put(cache) == chunk


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": "x"}', "null", "\x00\x00"])
def test_a_torn_sidecar_is_no_chunk(cache, text):
    chunk = put(cache)
    sidecar_of(chunk).write_text(text)
    assert cache.find("mapped", KEY) is None
    assert put(cache) == cache.find("mapped", KEY)


def test_killed_between_the_bytes_and_the_sidecar_is_no_chunk(cache, monkeypatch):
    replace = Path.replace

    def killed_at_the_sidecar(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed_at_the_sidecar)
    with pytest.raises(KeyboardInterrupt):
        put(cache)
    monkeypatch.undo()
    assert (cache.root / "mapped" / "ab" / f"{KEY}.parquet").exists()
    assert cache.find("mapped", KEY) is None
    chunk = put(cache)
    assert cache.open(chunk) is not None


def test_a_failed_writer_leaves_nothing(cache):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cache.put("raw", KEY, ".arrow", write)
    assert list((cache.root.parent / "aside").iterdir()) == []
    assert cache.find("raw", KEY) is None


def test_a_file_is_hashed_once_until_it_changes(cache, monkeypatch):
    chunk = put(cache)
    hashed = []
    monkeypatch.setattr("tunesmith.store.chunks.file_checksum", lambda path: hashed.append(path) or "0" * 32)
    assert cache.open(chunk) == chunk.path
    assert ChunkCache(cache.root).open(chunk) == chunk.path
    assert hashed == []
    chunk.path.write_bytes(b"rowz")
    assert cache.open(chunk) is None
    assert hashed == [chunk.path]


def test_a_chunk_is_linked_where_it_is_needed_and_survives_there(cache, tmp_path):
    chunk = put(cache)
    target = tmp_path / "rows.parquet"
    cache.link(chunk.path, target)
    assert target.samefile(chunk.path)
    put(cache, b"others")
    assert target.read_bytes() == b"rows"


def test_a_chunk_is_copied_where_links_are_impossible(cache, tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    chunk = put(cache)
    target = tmp_path / "rows.parquet"
    cache.link(chunk.path, target)
    assert target.read_bytes() == b"rows"
    assert not target.samefile(chunk.path)


def test_a_link_to_a_file_that_exists_is_refused(cache, tmp_path):
    target = tmp_path / "rows.parquet"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        cache.link(put(cache).path, target)
    assert target.read_bytes() == b"mine"


def test_the_sidecars_suffix_is_no_chunks(cache):
    with pytest.raises(ValueError, match="sidecar"):
        cache.put("raw", KEY, ".json", lambda path: None)


def test_the_sidecar_says_what_the_bytes_must_be(cache):
    chunk = put(cache)
    assert json.loads(sidecar_of(chunk).read_bytes()) == {
        "file": f"{KEY}.parquet",
        "sha256": hashlib.sha256(b"rows").hexdigest(),
        "checksum": xxhash.xxh3_128(b"rows").hexdigest(),
        "size_bytes": 4,
        "facts": {"num_rows": 4},
    }


def _put(root: str, barrier, results) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"same")
        barrier.wait()

    cache = ChunkCache(Path(root))
    chunk = cache.put("raw", KEY, ".arrow", write)
    results.put((chunk.sha256, cache.open(chunk) is not None))


def test_two_processes_that_put_one_key_both_succeed(cache):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_put, args=(str(cache.root), barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=240) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert found == {(put(cache, b"same").sha256, True)}
