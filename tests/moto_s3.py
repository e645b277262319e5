"""A small S3 server inside the test process; it checks no signatures."""

import uuid
from collections.abc import Callable

import pytest

from tunesmith.errors import StoreError
from tunesmith.store.s3 import Patience, S3Client, S3Config

QUICK = Patience(
    request_seconds=20, deadline_seconds=2, contact_seconds=0.1, backoff_seconds=0.01, max_backoff_seconds=0.05
)


@pytest.fixture(scope="session")
def moto_url():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch, tmp_path) -> None:
    """Credentials from the environment and from nowhere else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")


@pytest.fixture
def connect(aws, moto_url) -> Callable[..., S3Client]:
    def connect(**config) -> S3Client:
        config.setdefault("endpoint_url", moto_url)
        return S3Client(S3Config(**config), patience=QUICK, mistake=StoreError)

    return connect


@pytest.fixture
def bucket(connect) -> str:
    """The uri of a new bucket."""
    uri = f"s3://b{uuid.uuid4().hex}"
    connection = connect().connection
    connection.run(connection.request(uri, lambda server: server.create_bucket(Bucket=uri[5:])))
    return uri
