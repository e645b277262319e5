"""S3: objects found, read as they were, written once, and every mistake said clearly."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.errors import StoreError, TunesmithError
from tunesmith.store import s3_reading, s3_writing
from tunesmith.store.s3 import Patience, S3Client, S3Config, S3Object
from tunesmith.store.s3_checksums import Evidence, compute_parts_etag
from tunesmith.store.s3_errors import DamagedObject

SECRETS = ("an-access-key", "a-secret-key")


@pytest.fixture
def client(connect) -> S3Client:
    return connect()


def test_a_glob_finds_objects_sorted_by_key(client, bucket):
    for key in ("a/z.jsonl", "a/b/c/y.jsonl", "a/b/é ?#.jsonl", "a/x.csv", "b/x.jsonl", "a/folder/"):
        client.put(f"{bucket}/{key}", b"")
    found = [item.uri.removeprefix(f"{bucket}/") for item in client.find_objects(f"{bucket}/a/**/*.jsonl")]
    assert found == ["a/b/c/y.jsonl", "a/b/é ?#.jsonl", "a/z.jsonl"]
    assert [item.uri for item in client.find_objects(f"{bucket}/a/*")] == [f"{bucket}/a/x.csv", f"{bucket}/a/z.jsonl"]
    assert [item.uri for item in client.find_objects(f"{bucket}/[b]/?.jsonl")] == [f"{bucket}/b/x.jsonl"]


def test_a_listing_of_many_pages_is_complete(client, bucket, monkeypatch):
    for index in range(5):
        client.put(f"{bucket}/{index}", b"x")
    pages = []

    async def request(uri, ask, original=client.connection.request):
        async def small_pages(server):
            class Server:
                async def list_objects_v2(self, **options):
                    pages.append(options)
                    return await server.list_objects_v2(**options, MaxKeys=2)

            return await ask(Server())

        return await original(uri, small_pages)

    monkeypatch.setattr(client.connection, "request", request)
    assert client.list_keys(f"{bucket}/") == ["0", "1", "2", "3", "4"]
    assert len(pages) == 3


def test_a_uri_without_magic_is_one_object(client, bucket):
    client.put(f"{bucket}/a.csv", b"hello")
    (found,) = client.find_objects(f"{bucket}/a.csv")
    assert (found.etag, found.size_bytes) == (hashlib.md5(b"hello").hexdigest(), 5)


@pytest.mark.parametrize("content", [b"", b"x", b"rows\n" * 1000])
def test_an_object_is_downloaded_with_its_sha256(client, bucket, tmp_path, content):
    client.put(f"{bucket}/a", content)
    sha256 = client.download(client.stat(f"{bucket}/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    assert sha256 == hashlib.sha256(content).hexdigest()


def test_a_large_object_goes_up_and_comes_down_in_parts(client, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_writing, "PART_BYTES", 5 * 2**20)
    monkeypatch.setattr(s3_reading, "RANGE_BYTES", 3 * 2**20)
    content = os.urandom(2**20) * 6 + b"end"
    (tmp_path / "up").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    client.upload(tmp_path / "up", f"{bucket}/a", sha256)
    found = client.stat(f"{bucket}/a")
    assert found.etag.endswith("-2")
    assert client.download(found, tmp_path / "down") == sha256
    assert (tmp_path / "down").read_bytes() == content


def test_a_file_that_changed_before_its_upload_is_refused(client, bucket, tmp_path):
    (tmp_path / "a").write_bytes(b"changed")
    with pytest.raises(TunesmithError, match="changed before"):
        client.upload(tmp_path / "a", f"{bucket}/a", hashlib.sha256(b"sealed").hexdigest())
    assert not client.exists(f"{bucket}/a")


def test_an_object_that_changed_since_it_was_found_is_refused(client, bucket, tmp_path):
    client.put(f"{bucket}/a", b"old")
    found = client.stat(f"{bucket}/a")
    client.put(f"{bucket}/a", b"new")
    with pytest.raises(StoreError, match=r"s3://.*/a: changed while it was read; run again"):
        client.download(found, tmp_path / "a")


def test_an_object_that_is_gone_since_it_was_found_is_refused(client, bucket, tmp_path):
    client.put(f"{bucket}/a", b"old")
    found = client.stat(f"{bucket}/a")
    client.delete(f"{bucket}/a")
    with pytest.raises(StoreError, match="no such object any more"):
        client.download(found, tmp_path / "a")


def test_bytes_other_than_the_recorded_ones_are_damage(client, bucket, tmp_path):
    client.put(f"{bucket}/a", b"other")
    with pytest.raises(DamagedObject, match="its sha256 is not the recorded one, 3 equal reads"):
        client.download(client.stat(f"{bucket}/a"), tmp_path / "a", hashlib.sha256(b"mine").hexdigest())


def test_what_was_there_first_stands(client, bucket):
    assert client.put_if_absent(f"{bucket}/a", b"first") == b"first"
    assert client.put_if_absent(f"{bucket}/a", b"second") == b"first"
    assert client.read_bytes(f"{bucket}/a") == b"first"


def test_a_missing_object_has_no_bytes(client, bucket):
    assert client.read_bytes(f"{bucket}/a") is None
    assert not client.exists(f"{bucket}/a")
    client.delete(f"{bucket}/a")
    client.copy(f"{bucket}/a", f"{bucket}/b")


def test_an_object_of_another_size_is_another(client, bucket):
    client.put(f"{bucket}/a", b"four")
    assert client.exists(f"{bucket}/a", 4)
    assert not client.exists(f"{bucket}/a", 5)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("{bucket}/missing.csv", "no such object in bucket"),
        ("{bucket}/*.csv", "matches no object; 1 start with ''"),
        ("{bucket}/a**b", "is no pattern"),
        ("s3://no-such-bucket/a.csv", "there is no bucket 'no-such-bucket' at http://127.0.0.1"),
        ("s3://no-such-bucket/*.csv", "there is no bucket 'no-such-bucket' at http://127.0.0.1"),
        ("s3://No_Bucket!/a.csv", "'No_Bucket!' cannot be a bucket"),
        ("s3://me:hidden@bucket/a.csv", "an S3 uri holds no credentials"),
        ("s3:///a.csv", "is no S3 uri"),
        ("{bucket}//a.csv", "empty folder name"),
    ],
)
def test_a_uri_that_names_nothing_says_what_to_check(client, bucket, uri, words):
    client.put(f"{bucket}/there.jsonl", b"")
    with pytest.raises(StoreError) as caught:
        client.find_objects(uri.format(bucket=bucket))
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_no_credentials_say_which_variables_to_set(connect, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"no credentials .* set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name"):
        connect().stat(f"{bucket}/a")


def test_half_of_the_credentials_say_which_variables_to_set(connect, bucket, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        connect().stat(f"{bucket}/a")


def test_credentials_come_from_the_named_profile(connect, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    keys = "[team]\naws_access_key_id = a\naws_secret_access_key = b\n"
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text(keys)
    assert connect(profile="team").read_bytes(f"{bucket}/a") is None
    with pytest.raises(StoreError, match=r"no profile 'tema' in ~/.aws; check s3.profile"):
        connect(profile="tema").read_bytes(f"{bucket}/a")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:80"])
def test_a_server_that_cannot_be_reached_is_named_soon(connect, url):
    with pytest.raises(TunesmithError, match=r"cannot connect, for 0.1 seconds; check s3.endpoint_url") as caught:
        connect(endpoint_url=url).stat("s3://bucket/a")
    assert caught.value.exit_code == 4
    assert url in str(caught.value)


def test_a_region_is_used_without_breaking_anything(connect, bucket):
    connect(region="us-east-1").put(f"{bucket}/a", b"x")
    assert connect(region="eu-central-1").read_bytes(f"{bucket}/a") == b"x"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me:hidden@127.0.0.1:9000", "credentials come from the environment"),
        ("127.0.0.1:9000", "not an address"),
        ("ftp://127.0.0.1", "not an address"),
        ("http://", "not an address"),
        ("http://host:99999999", "not an address"),
        ("http://host/?X-Amz-Signature=hidden", "an address ends before"),
    ],
)
def test_an_address_with_credentials_or_without_sense_is_refused(url, words):
    with pytest.raises(ValidationError) as caught:
        S3Config(endpoint_url=url)
    (error,) = caught.value.errors()
    assert words in error["msg"]
    assert "hidden" not in error["msg"]


@pytest.mark.parametrize("field", ["key", "secret", "token", "access_key_id", "aws_secret_access_key"])
def test_a_recipe_holds_no_credentials(field):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        S3Config(**{field: "x"})


def test_where_the_bytes_lie_is_in_no_key():
    assert S3Config(endpoint_url="http://host", region="r", profile="p").key_fields() == {}


def test_reading_a_recipe_does_not_import_s3fs():
    code = "import sys, tunesmith.store.config; sys.exit('s3fs' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class Scripted:
    """A server whose answers are given; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def __call__(self, _server):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def client_error(status: int, code: str, **details):
    from botocore.exceptions import ClientError

    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {}}
    return ClientError({"Error": {"Code": code, **details}, "ResponseMetadata": metadata}, "GetObject")


def ask(client: S3Client, *answers):
    return client.connection.run(client.connection.request("s3://bucket/key", Scripted(*answers)))


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: client_error(503, "SlowDown"),
        lambda: client_error(500, "InternalError"),
        lambda: client_error(429, "TooManyRequests"),
        lambda: client_error(400, "BadDigest"),
        lambda: client_error(400, "RequestTimeout"),
        lambda: client_error(409, "ConditionalRequestConflict"),
        lambda: ConnectionResetError("reset"),
        lambda: TimeoutError(),
    ],
)
def test_trouble_that_passes_is_borne(client, trouble):
    assert ask(client, trouble(), trouble(), "answer") == "answer"


def test_trouble_that_stays_ends_at_the_deadline(connect):
    client = connect()
    client.patience = Patience(backoff_seconds=0.01, deadline_seconds=0.05, contact_seconds=0.05)
    with pytest.raises(
        TunesmithError, match=r"s3://bucket/key: .*the server answers SlowDown, for 0.05 seconds"
    ) as caught:
        ask(client, *(client_error(503, "SlowDown") for _ in range(50)))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (client_error(403, "SignatureDoesNotMatch"), "the secret key is wrong; check AWS_ACCESS_KEY_ID"),
        (client_error(403, "InvalidAccessKeyId", AWSAccessKeyId=SECRETS[0]), "the access key is not known there"),
        (client_error(403, "AccessDenied"), "or may not do this"),
        (client_error(403, "403"), "refuses us (Forbidden)"),
        (client_error(403, "RequestTimeTooSkewed"), "clock is wrong"),
        (client_error(400, "ExpiredToken"), "session token has expired"),
        (client_error(301, "PermanentRedirect"), "set s3.region to the bucket's"),
        (client_error(400, "AuthorizationHeaderMalformed", Region="eu-west-1"), "it is in 'eu-west-1': set s3.region"),
        (
            client_error(400, "InvalidBucketName", Message="Bad name."),
            "refuses the request: InvalidBucketName",
        ),
        (ValueError("Invalid endpoint: http://me:a-secret-key@"), "check s3.endpoint_url"),
    ],
)
def test_a_refusal_says_what_to_check_and_no_secret(client, error, words):
    with pytest.raises(StoreError) as caught:
        ask(client, error)
    assert words in str(caught.value)
    assert str(caught.value).startswith("s3://bucket/key: ")
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.exit_code == 2


def test_a_server_without_conditional_writes_is_asked_first(client, bucket, monkeypatch):
    from tunesmith.store.s3_errors import UnknownCondition

    put = s3_writing._put

    async def refuse(connection, uri, content, **condition):
        if condition:
            raise UnknownCondition(uri)
        return await put(connection, uri, content)

    monkeypatch.setattr(s3_writing, "_put", refuse)
    assert client.put_if_absent(f"{bucket}/a", b"first") == b"first"
    assert client.put_if_absent(f"{bucket}/a", b"second") == b"first"


def test_a_server_that_ignores_conditions_tells_what_stands(client, bucket, monkeypatch):
    put = s3_writing._put

    async def ignore(connection, uri, content, **_condition):
        return await put(connection, uri, content)

    monkeypatch.setattr(s3_writing, "_put", ignore)
    client.put_if_absent(f"{bucket}/a", b"first")
    assert client.put_if_absent(f"{bucket}/a", b"second") == b"second"


def test_where_the_answer_tells_nothing_the_object_is_read_back(client, bucket, monkeypatch, tmp_path):
    monkeypatch.setattr(s3_writing, "_tell_etag", lambda answer: "")
    read = []
    download = s3_writing.download

    async def watched(connection, source, target, sha256):
        read.append(source.uri)
        return await download(connection, source, target, sha256)

    monkeypatch.setattr(s3_writing, "download", watched)
    client.put(f"{bucket}/a", b"x")
    assert read == [f"{bucket}/a"]


def spoil_reads(monkeypatch, spoiled) -> list[bytes]:
    """Every read whose number is in `spoiled` gives wrong bytes of the right length."""
    reads: list[bytes] = []
    get = s3_reading._get

    async def spoil(*args, **options):
        body, answer = await get(*args, **options)
        reads.append(body[:-1] + bytes([body[-1] ^ (len(reads) + 1)]) if len(reads) in spoiled else body)
        return reads[-1], answer

    monkeypatch.setattr(s3_reading, "_get", spoil)
    return reads


@pytest.mark.parametrize("spoiled", [{0}, {1}, {0, 1}, {0, 2}])
def test_where_the_server_tells_nothing_two_equal_reads_decide(client, bucket, monkeypatch, tmp_path, spoiled):
    client.put(f"{bucket}/a", b"right")
    monkeypatch.setattr(s3_reading, "read_evidence", lambda etag, head: Evidence())
    reads = spoil_reads(monkeypatch, spoiled)
    client.download(client.stat(f"{bucket}/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"right"
    assert len(reads) == len(spoiled) + 2
    reads.clear()
    assert client.read_bytes(f"{bucket}/a") == b"right"


def test_where_no_two_reads_agree_there_is_no_file(client, bucket, monkeypatch, tmp_path):
    client.put(f"{bucket}/a", b"right")
    monkeypatch.setattr(s3_reading, "read_evidence", lambda etag, head: Evidence())
    spoil_reads(monkeypatch, range(100))
    with pytest.raises(DamagedObject, match="12 reads of bytes from 0 all differ"):
        client.download(client.stat(f"{bucket}/a"), tmp_path / "a")


@pytest.mark.parametrize("sizes", [(5 * 2**20, 5 * 2**20 + 1, 9), (6 * 2**20, 5 * 2**20, 9)])
def test_parts_of_uneven_sizes_are_verified_by_their_own(client, bucket, monkeypatch, tmp_path, sizes):
    content = bytes(range(256)) * (sum(sizes) // 256 + 1)
    (tmp_path / "a").write_bytes(content[: sum(sizes)])
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    parts = [content[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    etag = compute_parts_etag(hashlib.md5(part).digest() for part in parts)

    async def part_size(connection, source, number):
        return sizes[number - 1]

    monkeypatch.setattr(s3_reading, "_part_size", part_size)
    source = S3Object(f"{bucket}/a", etag, sum(sizes))
    judge = s3_reading._judge_parts(client.connection, source, tmp_path / "a", len(sizes))
    assert client.connection.run(judge) is True


def test_a_listing_counts_once_two_in_a_row_agree(client, bucket, monkeypatch):
    client.put(f"{bucket}/a.csv", b"x")
    listings, list_once = [], s3_reading._list

    async def flawed(connection, uri, prefix):
        listings.append(uri)
        async for item in list_once(connection, uri, prefix):
            if len(listings) != 2:
                yield item

    monkeypatch.setattr(s3_reading, "_list", flawed)
    assert len(client.find_objects(f"{bucket}/*.csv")) == 1
    assert len(listings) == 4
