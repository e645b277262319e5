import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from huggingface_hub import constants

from tunesmith.data.hub import find_hub_files
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.sources import HubOptions
from tunesmith.errors import DataError, TunesmithError, UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"data/train-0.csv": b"text\na\n", "data/train-1.csv": b"text\nb\n", "large.csv": b"text\nlarge\n"}


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """The two endpoints of the Hub that are needed."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.requests, self.damage, self.status = [], 0, {}

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        place = self.path.split("?")[0]
        self.server.requests.append((self.command, place))
        for part, (status, code) in self.server.status.items():
            if part in place:
                return self.answer(status, b"{}", {"X-Error-Code": code})
        if place.startswith("/api/datasets/org/name/revision/"):
            return self.answer(200, json.dumps(self.listing()).encode(), {})
        content = FILES[place.removeprefix(f"/datasets/org/name/resolve/{COMMIT}/")]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_id(content)}"'}
        if self.command == "GET" and self.server.damage:
            self.server.damage -= 1
            content = content[:-2] + b"X\n"
        return self.answer(200, content, headers)

    def listing(self):
        files = []
        for name, content in FILES.items():
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
            file = {"rfilename": name, "blobId": git_id(content), "size": len(content)}
            files.append({**file, "lfs": lfs} if name == "large.csv" else file)
        return {"id": "org/name", "sha": COMMIT, "siblings": files}

    def answer(self, status, content, headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = Hub()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def find(hub, folder, *files, revision=COMMIT):
    options = HubOptions(dataset="org/name", revision=revision, files=files)
    return [*find_hub_files(options, ReaderOptions(), folder, hub.endpoint)]


def test_files_are_found_at_a_commit_and_copied_once(hub, tmp_path):
    files = find(hub, tmp_path, "large.csv", "data/train-*.csv")
    assert [file.place for file in files] == [
        f"hf://datasets/org/name@{COMMIT[:12]}/{name}" for name in ("large.csv", "data/train-0.csv", "data/train-1.csv")
    ]
    assert [file.path.read_bytes() for file in files] == [FILES["large.csv"], *list(FILES.values())[:2]]
    assert [file.sha256 for file in files] == [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files]


def test_a_pinned_commit_is_not_asked_for_again(hub, tmp_path):
    files = find(hub, tmp_path, "*.csv")
    num_requests = len(hub.requests)
    assert find(hub, tmp_path, "*.csv") == files
    assert len(hub.requests) == num_requests


def test_a_tag_is_resolved_to_its_commit_each_time(hub, tmp_path):
    for _ in range(2):
        [file] = find(hub, tmp_path, "large.csv", revision="v1")
        assert COMMIT[:12] in file.place
    assert [place for _, place in hub.requests].count("/api/datasets/org/name/revision/v1") == 2


@pytest.mark.parametrize("name", ["large.csv", "data/train-0.csv"])
def test_damaged_bytes_are_fetched_again_and_refused_when_they_stay(hub, tmp_path, name):
    hub.damage = 1
    [file] = find(hub, tmp_path / "a", name)
    assert file.path.read_bytes() == FILES[name]
    hub.damage = 2
    with pytest.raises(TunesmithError, match=rf"{name} arrived damaged twice.*Try again") as caught:
        find(hub, tmp_path / "b", name)
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "RepoNotFound", "no such dataset, or it is private. Correct .*hub.dataset.*HF_TOKEN"),
        (404, "RevisionNotFound", f"no revision '{COMMIT}'. Correct the source's hub.revision"),
        (403, "GatedRepo", "it is gated. Ask for access"),
        (403, "", r"refuses us \(403\). Check HF_TOKEN"),
    ],
)
def test_a_dataset_that_is_not_there_for_us_is_a_mistake_with_its_cure(hub, tmp_path, status, code, expected):
    hub.status["/revision/"] = (status, code)
    with pytest.raises(DataError, match=f"hub dataset org/name: .*{expected}"):
        find(hub, tmp_path, "*.csv")


def test_a_file_that_is_not_there_is_answered_with_the_nearest(hub, tmp_path):
    with pytest.raises(DataError, match=r"no file matches 'larg\.csv'\. Did you mean large\.csv\?.*hub\.files"):
        find(hub, tmp_path, "larg.csv")
    with pytest.raises(DataError, match=r"no file matches '\*\.parquet'\. It holds data/train-0\.csv, "):
        find(hub, tmp_path, "*.parquet")


def test_trouble_of_the_hub_is_no_mistake_of_the_user(hub, tmp_path):
    hub.status["/revision/"] = (400, "")
    with pytest.raises(TunesmithError, match="the Hub answers with an error") as caught:
        find(hub, tmp_path, "*.csv")
    assert not isinstance(caught.value, UserError)


def test_without_a_network_a_pinned_commit_that_is_here_is_enough(hub, tmp_path, monkeypatch):
    files = find(hub, tmp_path, "large.csv")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find(hub, tmp_path, "large.csv") == files
    with pytest.raises(DataError, match=r"it is not here yet, and HF_HUB_OFFLINE forbids to fetch it"):
        find(hub, tmp_path / "other", "large.csv")


def test_a_hub_that_cannot_be_reached_is_no_mistake_of_the_user(hub, tmp_path):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(
        TunesmithError, match=r"hub dataset org/name: the Hub cannot be reached \(.+\)\. Check"
    ) as caught:
        find(hub, tmp_path, "*.csv")
    assert not isinstance(caught.value, UserError)


def test_a_name_that_the_hub_gives_nobody_is_refused(tmp_path):
    hub = HubOptions(dataset="org/my--data", revision="main", files=("*.csv",))
    with pytest.raises(DataError, match=r"hub dataset org/my--data: .*Correct the source's hub\.dataset"):
        [*find_hub_files(hub, ReaderOptions(), tmp_path)]
