"""Checkpoints that go from machine to machine over an S3 server that checks signatures, with faults on the way."""

import uuid

import pytest
from fault_proxy import fault_proxy
from swift_s3 import ACCESS_KEY, REGION, SECRET_KEY, swift_s3

from mirrored_training import Machines, train_on_three_machines
from tiny_features import write_features
from tiny_models import make_bert
from tunesmith.store.s3 import S3Client, S3Config

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with swift_s3(tmp_path / "swift") as url:
        yield url


def test_machines_that_die_hand_a_training_on_over_a_server_that_fails_now_and_then(server, tmp_path):
    client = S3Client(S3Config(endpoint_url=server, region=REGION))
    bucket = f"s3://b{uuid.uuid4().hex}"
    client.connection.run(client.connection.request(bucket, lambda server: server.create_bucket(Bucket=bucket[5:])))
    base = make_bert(tmp_path / "bert", [f"w{number}" for number in range(60)])
    (tmp_path / "features").mkdir()
    features = write_features(tmp_path / "features", base, labels=("bad", "good"))
    with fault_proxy(server, share=0.05, seed=3, faults=("unavailable", "truncated", "wrong")) as proxy:
        s3 = S3Config(endpoint_url=proxy.url, region=REGION)
        train_on_three_machines(Machines(tmp_path, features, base, f"{bucket}/team", s3, client))
        assert proxy.counts.total() > proxy.counts["none"]
