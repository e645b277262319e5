"""S3 on a server that checks signatures: sources and the store, with wrong credentials, faults and two machines."""

import csv
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_proxy import fault_proxy
from swift_s3 import ACCESS_KEY, REGION, SECRET_KEY, swift_s3

from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.snapshot import snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import RowStream, StreamOrder, describe_stream
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.errors import DataError, StoreError, TunesmithError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store import s3_reading, s3_writing
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.remote import RemoteStore
from tunesmith.store.s3 import Patience, S3Client, S3Config

pytestmark = pytest.mark.services

QUICK = Patience(
    request_seconds=0.6, deadline_seconds=20, contact_seconds=20, backoff_seconds=0.01, max_backoff_seconds=0.1
)
NUM_DOWNLOADS = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with swift_s3(tmp_path_factory.mktemp("swift")) as url:
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def client(server) -> S3Client:
    return S3Client(S3Config(endpoint_url=server, region=REGION))


@pytest.fixture
def bucket(client) -> str:
    uri = f"s3://b{uuid.uuid4().hex}"
    client.connection.run(client.connection.request(uri, lambda server: server.create_bucket(Bucket=uri[5:])))
    return uri


def test_objects_are_found_read_and_written_on_a_server_that_checks_signatures(client, bucket, tmp_path):
    for key in ("a/one.jsonl", "a/b/two é#?.jsonl", "a/three.csv"):
        client.put(f"{bucket}/{key}", key.encode())
    found = client.find_objects(f"{bucket}/a/**/*.jsonl")
    assert [item.uri.removeprefix(bucket) for item in found] == ["/a/b/two é#?.jsonl", "/a/one.jsonl"]
    assert client.download(found[1], tmp_path / "one") == hashlib.sha256(b"a/one.jsonl").hexdigest()
    assert client.put_if_absent(f"{bucket}/once", b"first") == b"first"
    assert client.put_if_absent(f"{bucket}/once", b"second") == b"first"
    client.put(f"{bucket}/a/one.jsonl", b"changed")
    with pytest.raises(DataError, match="changed while it was read"):
        client.download(found[1], tmp_path / "one")


def test_an_object_in_parts_is_verified_by_its_etag(client, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_writing, "PART_BYTES", 5 * 2**20)
    content = random.Random(0).randbytes(2**20) * 11
    (tmp_path / "up").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    client.upload(tmp_path / "up", f"{bucket}/large", sha256)
    found = client.stat(f"{bucket}/large")
    assert found.etag.endswith("-3")
    assert client.download(found, tmp_path / "down") == sha256


@pytest.mark.parametrize("ask", ["stat", "find_objects", "read_bytes", "put"])
def test_a_wrong_secret_says_what_to_check_and_ends_with_2(server, bucket, monkeypatch, ask):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    client = S3Client(S3Config(endpoint_url=server, region=REGION), mistake=StoreError)
    uri = f"{bucket}/*.csv" if ask == "find_objects" else f"{bucket}/a"
    with pytest.raises(StoreError) as caught:
        getattr(client, ask)(uri, *([b"x"] if ask == "put" else []))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    for words in (uri, server, "SignatureDoesNotMatch", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        assert words in message
    assert "not-the-secret" not in message
    assert SECRET_KEY not in message


def test_a_wrong_region_is_corrected_or_named(server, client, bucket):
    client.put(f"{bucket}/a", b"x")
    assert S3Client(S3Config(endpoint_url=server, region="eu-west-9")).stat(f"{bucket}/a").size_bytes == 1


def make_objects(client: S3Client, bucket: str, number: int) -> dict[str, bytes]:
    contents = {
        f"{bucket}/rows/{index:03}.jsonl": random.Random(index).randbytes(200 + index) for index in range(number)
    }
    for uri, content in contents.items():
        client.put(uri, content)
    return contents


def test_with_faults_the_content_is_right_or_the_error_clear(server, client, bucket, tmp_path):
    contents = make_objects(client, bucket, 10)
    with fault_proxy(server, stall_seconds=0.9) as proxy:
        through = S3Client(S3Config(endpoint_url=proxy.url, region=REGION), patience=QUICK)
        failures = []
        for turn in range(NUM_DOWNLOADS // len(contents)):
            try:
                found = through.find_objects(f"{bucket}/rows/*.jsonl")
                assert [item.uri for item in found] == sorted(contents)
                for item in found:
                    sha256 = through.download(item, tmp_path / "a")
                    assert (tmp_path / "a").read_bytes() == contents[item.uri], (turn, item)
                    assert sha256 == hashlib.sha256(contents[item.uri]).hexdigest()
            except TunesmithError as error:
                failures.append(str(error))
        counts = proxy.counts
    assert all(counts[fault] for fault in proxy.faults), counts
    assert failures == []


def test_wrong_bytes_in_every_range_of_a_large_object_are_mended(server, client, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_writing, "PART_BYTES", 5 * 2**20)
    monkeypatch.setattr(s3_reading, "RANGE_BYTES", 2**18)
    content = random.Random(1).randbytes(2**20) * 6
    (tmp_path / "up").write_bytes(content)
    client.upload(tmp_path / "up", f"{bucket}/large", hashlib.sha256(content).hexdigest())
    with fault_proxy(server, share=0.2, seed=3, faults=("wrong",)) as proxy:
        through = S3Client(S3Config(endpoint_url=proxy.url, region=REGION), patience=QUICK)
        through.download(through.stat(f"{bucket}/large"), tmp_path / "down")
        assert proxy.counts["wrong"] > 2
    assert (tmp_path / "down").read_bytes() == content


def test_a_server_that_is_always_wrong_is_an_error_and_never_a_file(server, client, bucket, tmp_path):
    client.put(f"{bucket}/a", b"the right bytes")
    with fault_proxy(server, share=1.0, faults=("wrong",)) as proxy:
        through = S3Client(S3Config(endpoint_url=proxy.url, region=REGION), patience=QUICK)
        with pytest.raises(TunesmithError, match=r"s3://.*/a: its bytes are wrong: .*check the proxy"):
            through.download(through.stat(f"{bucket}/a"), tmp_path / "a")
        with pytest.raises(TunesmithError, match="its bytes are wrong"):
            through.read_bytes(f"{bucket}/a")


def derivation_of(text: str, built: list[str]) -> Derivation:
    def build(folder: Path) -> dict[str, int]:
        built.append(text)
        for index in range(4):
            (folder / f"{index}.txt").write_text(f"{text} {index}" * 50)
        return {"length": len(text)}

    ingredients = compose_ingredients(config={"text": {"is": text}}, inputs={}, code=["tunesmith.store.keys"])
    return Derivation("note", ingredients, build)


def use_store(store: RemoteStore, text: str, built: list[str], written: list[str]) -> tuple[str, str]:
    def write(path: Path) -> None:
        written.append(text)
        path.write_text(text * 100)

    chunk = store.chunks.ensure("mapped", hashlib.md5(text.encode()).hexdigest(), ".txt", write)
    assert chunk.path.read_text() == text * 100
    ref = store.ensure(derivation_of(text, built))
    assert [(ref.folder / f"{index}.txt").read_text() for index in range(4)] == [f"{text} {i}" * 50 for i in range(4)]
    return ref.key, chunk.sha256


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_what_one_machine_computed_the_other_does_not_with_and_without_faults(server, bucket, tmp_path, share):
    texts = [f"text {index}" for index in range(3)]
    with fault_proxy(server, share=share or 1e-9, seed=7, stall_seconds=0.9) as proxy:
        config = S3Config(endpoint_url=proxy.url, region=REGION)
        results = []
        for name in ("one", "two"):
            built: list[str] = []
            written: list[str] = []
            store = RemoteStore(f"{bucket}/team", config, tmp_path / name, patience=QUICK)
            results.append([use_store(store, text, built, written) for text in texts])
            assert built == written == (texts if name == "one" else [])
    assert results[0] == results[1]


def write_reviews(folder: Path) -> list[str]:
    """The same rows in three formats; gives the names of the files."""
    rows = [{"text": f'No. {i}:\n"good"', "label": ("pos", "neg")[i % 2], "stars": i % 5} for i in range(20_000)]
    folder.mkdir()
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "reviews.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(rows), folder / "reviews.parquet")
    return ["reviews.csv", "reviews.jsonl.gz", "reviews.parquet"]


def test_the_same_rows_from_the_disk_and_from_s3_in_every_format_are_one_snapshot(server, client, bucket, tmp_path):
    names = write_reviews(tmp_path / "here")
    for name in names:
        client.put(f"{bucket}/reviews/{name}", (tmp_path / "here" / name).read_bytes())
    sources = [{"files": [str(tmp_path / "here" / name)]} for name in names]
    with fault_proxy(server, share=0.2, seed=9, faults=("unavailable", "truncated", "wrong")) as proxy:
        s3 = {"endpoint_url": proxy.url, "region": REGION}
        sources += [{"files": [f"{bucket}/reviews/{name}"], "s3": s3} for name in names]
        keys = []
        for number, source in enumerate(sources):  # each on a machine of its own
            data = DataConfig.model_validate_json(json.dumps({"sources": [source]}), context={"folder": tmp_path})
            store = FolderStore(tmp_path / f"store-{number}")
            examples = TextClassification(kind="text-classification", text="text", label="label")
            keys.append(snapshot(fetch(data, store), data, examples, store).key)
        assert proxy.counts.total() > proxy.counts["none"]
    assert len(keys) == 6
    assert len(set(keys)) == 1


def test_a_stream_of_more_objects_than_find_room_is_that_of_files_in_the_same_order(server, client, bucket, tmp_path):
    rng, here = random.Random(5), tmp_path / "here"
    here.mkdir()
    for shard in range(10):
        texts = [f"{shard} {row} {rng.randbytes(300).hex()}" for row in range(200)]
        content = gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode(), mtime=0)
        (here / f"{shard}.jsonl.gz").write_bytes(content)
        client.put(f"{bucket}/{shard}.jsonl.gz", content)
    room = sum(path.stat().st_size for path in here.iterdir()) // 4
    examples = TextGeneration(kind="text-generation", text="text", max_new_tokens=8)

    def read(files: str, **source: object) -> list[str]:
        streaming = {"shuffle_buffer": 300, "max_copied_bytes": room}
        section = {"sources": [{"files": [files], **source}], "streaming": streaming}
        data = DataConfig.model_validate_json(json.dumps(section), context={"folder": here})
        config = StreamConfig(data, examples, SplitConfig())
        fetched = fetch(data, FolderStore(tmp_path / "store"))
        found = [SourceFile.from_json(file) for file in fetched.facts["files"]]
        stream = RowStream(describe_stream(found, config), config, StreamOrder("train", 300), tmp_path / "refused")
        return [text for table in stream for text in table["text"].to_pylist()]

    local = read(str(here / "*.jsonl.gz"))
    with fault_proxy(server, share=0.1, seed=4, faults=("unavailable", "truncated", "wrong")) as proxy:
        remote = read(f"{bucket}/*.jsonl.gz", s3={"endpoint_url": proxy.url, "region": REGION})
        assert proxy.counts.total() > proxy.counts["none"]
    assert len(local) > 1000
    assert remote == local
    copies = [*(tmp_path / "store" / "fetched" / "s3" / "streamed").glob("*/*.gz")]
    assert sum(path.stat().st_size for path in copies) <= room


def test_a_client_leaves_no_warning_behind(server, bucket):
    code = (
        "import sys\n"
        "from tunesmith.store.s3 import S3Client, S3Config\n"
        f"client = S3Client(S3Config(endpoint_url={server!r}, region={REGION!r}))\n"
        f"assert client.read_bytes({bucket + '/none'!r}) is None\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
