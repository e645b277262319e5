"""Objects on S3 that are too many for the disk: copied when they are read, and gone again."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from streamed import Streamed
from tunesmith.data import remote_copies
from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.sources import DataConfig
from tunesmith.data.stream import RowStream, StreamOrder, describe_stream
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.errors import DataError
from tunesmith.store.folder import FolderStore
from tunesmith.store.s3 import S3Config, S3Object

NUM_OBJECTS, NUM_ROWS = 12, 400


class Bucket:
    """What stands in for a server; the services' tests do the same with a real one."""

    config = S3Config(endpoint_url="http://127.0.0.1:9000")

    def __init__(self):
        self.downloads = []
        self.objects = {
            f"s3://b/{number:02d}.jsonl": "".join(
                json.dumps({"text": f"object {number} row {row} " + "x" * 900}) + "\n" for row in range(NUM_ROWS)
            ).encode()
            for number in range(NUM_OBJECTS)
        }

    @property
    def size_bytes(self):
        return sum(map(len, self.objects.values()))

    def find_objects(self, uri):
        return [self.stat(key) for key in self.objects if fnmatchcase(key, uri)]

    def stat(self, uri):
        content = self.objects[uri]
        return S3Object(uri, hashlib.md5(content).hexdigest(), len(content))

    def download(self, found, target, sha256=""):
        content = self.objects[found.uri]
        self.downloads.append(found.uri)
        if self.stat(found.uri).etag != found.etag:
            raise DataError(f"{found.uri}: the object changed since it was found")
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()


@pytest.fixture
def bucket(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr("tunesmith.data.fetch.S3Client", lambda config: bucket)
    monkeypatch.setattr(remote_copies, "S3Client", lambda config: bucket)
    return bucket


@pytest.fixture
def open_stream(bucket, tmp_path):
    """A stream of the bucket's objects, of which about three find room."""
    room = bucket.size_bytes // NUM_OBJECTS * 3 + 10
    streaming = {"shuffle_buffer": 500, "sample_rows": 10, "max_copied_bytes": room}
    section = json.dumps({"sources": [{"files": ["s3://b/*.jsonl"]}], "streaming": streaming})
    data = DataConfig.model_validate_json(section, context={"folder": tmp_path})
    example = Streamed(tmp_path)
    config = StreamConfig(data, example.config.examples, example.config.split)

    def fetch_files():
        return [SourceFile.from_json(file) for file in fetch(data, FolderStore(tmp_path / "store")).facts["files"]]

    def open_stream(**order):
        files = fetch_files()
        description = describe_stream(files, config)
        return RowStream(description, config, StreamOrder("train", 500, **order), tmp_path / "quarantine")

    open_stream.room, open_stream.fetch = room, fetch_files
    return open_stream


def copied_bytes(tmp_path):
    return sum(path.stat().st_size for path in tmp_path.glob("store/fetched/s3/streamed/*/*.jsonl"))


def test_all_rows_come_once_and_never_more_than_the_room_is_copied(open_stream, bucket, tmp_path, monkeypatch):
    most = []
    download = bucket.download

    def watch(found, target, sha256=""):
        done = download(found, target, sha256)
        most.append(copied_bytes(tmp_path) + target.stat().st_size)
        return done

    bucket.download = watch
    texts = [text for table in open_stream() for text in table["text"].to_pylist()]
    assert len(texts) == len(set(texts)) > NUM_OBJECTS * NUM_ROWS // 2
    assert {text.split()[1] for text in texts} == {str(number) for number in range(NUM_OBJECTS)}
    assert max(most) <= open_stream.room
    assert copied_bytes(tmp_path) <= open_stream.room


def test_processes_that_read_the_same_object_at_once_copy_it_once(open_stream, bucket, tmp_path):
    file = open_stream.fetch()[0]
    file.path.unlink(missing_ok=True)
    bucket.downloads.clear()
    download = bucket.download

    def download_slowly(*args):
        time.sleep(0.3)
        return download(*args)

    bucket.download = download_slowly

    def read(_number):
        with remote_copies.open_file(file) as raw:
            return raw.read()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(4))) == {bucket.objects[file.remote.uri]}
    assert bucket.downloads == [file.remote.uri]


def test_what_another_process_is_copying_takes_room_too(open_stream, bucket, tmp_path):
    files = open_stream.fetch()
    for file in files[:3]:
        with remote_copies.open_file(file):
            pass
    part = files[5].path.with_name("other.part")
    part.write_bytes(bytes(files[5].size_bytes))
    with remote_copies.open_file(files[4]):
        pass
    assert part.exists()
    assert copied_bytes(tmp_path) + files[5].size_bytes <= open_stream.room


def test_all_addresses_of_a_source_share_the_room(open_stream, bucket, tmp_path):
    streaming = {"shuffle_buffer": 500, "sample_rows": 10, "max_copied_bytes": open_stream.room}
    section = json.dumps({"sources": [{"files": [*bucket.objects]}], "streaming": streaming})
    data = DataConfig.model_validate_json(section, context={"folder": tmp_path})
    files = fetch(data, FolderStore(tmp_path / "store")).facts["files"]
    assert [file["place"] for file in files] == [*bucket.objects]
    assert all(file["remote"] is not None for file in files)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl")) <= open_stream.room


def test_a_stream_goes_on_exactly_though_every_copy_has_gone(open_stream, tmp_path):
    whole = [table["text"].to_pylist() for table in open_stream()]
    stream = open_stream()
    first = [next(iter(stream))["text"].to_pylist()]
    state = stream.state()
    for path in tmp_path.glob("store/fetched/s3/streamed/*/*.jsonl"):
        path.unlink()
    again = open_stream()
    again.resume(state)
    rest = [table["text"].to_pylist() for table in again]
    assert [text for table in [*first, *rest] for text in table] == [text for table in whole for text in table]


def test_what_is_known_of_an_object_is_not_fetched_to_be_known_again(open_stream, bucket, tmp_path):
    open_stream.fetch()
    assert len(bucket.downloads) == NUM_OBJECTS
    open_stream.fetch()
    assert len(bucket.downloads) == NUM_OBJECTS
    bucket.objects["s3://b/03.jsonl"] += b'{"text": "one more"}\n'
    open_stream.fetch()
    assert bucket.downloads[NUM_OBJECTS:] == ["s3://b/03.jsonl"]


def test_a_copy_that_somebody_changed_is_fetched_again(open_stream, tmp_path, caplog):
    whole = [text for table in open_stream() for text in table["text"].to_pylist()]
    for path in tmp_path.glob("store/fetched/s3/streamed/*/*.jsonl"):
        path.write_bytes(b"{}")
    assert [text for table in open_stream() for text in table["text"].to_pylist()] == whole
    assert "is not as it was made; it is fetched again" in caplog.text


def test_an_object_that_changed_meanwhile_is_refused(open_stream, bucket):
    stream = open_stream()
    bucket.objects["s3://b/00.jsonl"] = b'{"text": "another"}\n'
    with pytest.raises(DataError, match=r"s3://b/00\.jsonl: the object changed since it was found"):
        list(stream)


def test_an_object_that_finds_no_room_is_refused_with_what_to_do(bucket, tmp_path):
    streaming = {"shuffle_buffer": 500, "sample_rows": 10, "max_copied_bytes": 1000}
    section = json.dumps({"sources": [{"files": ["s3://b/*.jsonl"]}], "streaming": streaming})
    data = DataConfig.model_validate_json(section, context={"folder": tmp_path})
    with pytest.raises(DataError, match=r"s3://b/00\.jsonl: has 3\d\d,\d\d\d bytes, and .*room for 1,000. Raise it"):
        fetch(data, FolderStore(tmp_path / "store"))


def test_objects_that_find_room_are_copied_once_and_stay(bucket, tmp_path):
    section = json.dumps({"sources": [{"files": ["s3://b/*.jsonl"]}], "streaming": {}})
    data = DataConfig.model_validate_json(section, context={"folder": tmp_path})
    files = fetch(data, FolderStore(tmp_path / "store")).facts["files"]
    assert [file["remote"] for file in files] == [None] * NUM_OBJECTS
    assert all(Path(file["path"]).exists() for file in files)
