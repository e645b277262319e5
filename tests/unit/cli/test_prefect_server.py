"""The embedded Prefect server: there for as long as it is needed, gone with its parent, told about when it fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.cli import prefect_server as module
from tunesmith.cli.prefect_server import EmbeddedServer, check_named_server, prefect_server
from tunesmith.errors import TunesmithError
from tunesmith.home import Home


def test_a_server_that_the_user_names_is_used_as_it_is(tmp_path):
    environ = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_HOME": "/mine"}
    with prefect_server(Home(tmp_path), environ) as server:
        assert server is None
    assert environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert environ["PREFECT_HOME"] == "/mine"


def test_a_server_that_is_named_leaves_prefect_its_own_home_with_the_key_in_its_profile(tmp_path):
    environ = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    with prefect_server(Home(tmp_path), environ):
        assert "PREFECT_HOME" not in environ


@pytest.mark.parametrize("url", ["http://127.0.0.1:42o0/api", "http://127.0.0.1:1/api", "nonsense"])
def test_an_address_where_no_server_can_be_is_an_error_that_names_it(url):
    with pytest.raises(TunesmithError, match=f"the Prefect server {url} cannot be reached"):
        check_named_server(url)


def test_a_server_that_cannot_start_is_an_error_that_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    server = EmbeddedServer(tmp_path / "logs" / "prefect-server.log")
    try:
        with pytest.raises(TunesmithError, match=r"prefect-server\.log"):
            server.wait_until_up()
    finally:
        server.stop()


def test_a_module_in_the_working_directory_is_not_taken_for_one_of_pythons(tmp_path, monkeypatch):
    (tmp_path / "calendar.py").write_text("raise SystemExit('not the calendar that uvicorn wants')")
    monkeypatch.chdir(tmp_path)
    server = EmbeddedServer(tmp_path / "logs" / "prefect-server.log")
    try:
        server.wait_until_up()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "intranet, .example"}, "intranet,.example,127.0.0.1"),
        ({"no_proxy": "mine", "NO_PROXY": "not read"}, "mine,127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
        ({"no_proxy": "127.0.0.1"}, "127.0.0.1"),
    ],
)
def test_no_proxy_stands_before_the_embedded_server(before, after, tmp_path):
    environ = {**before}
    with prefect_server(Home(tmp_path), environ):
        assert environ["no_proxy"] == after
        assert environ.get("NO_PROXY", after) in (after, before.get("NO_PROXY"))


def _is_alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.services
def test_the_server_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from tunesmith.cli.prefect_server import prefect_server\n"
        "from tunesmith.home import Home\n"
        f"with prefect_server(Home(Path({str(tmp_path)!r})), os.environ) as server:\n"
        "    server.wait_until_up()\n"
        "    print(server._process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(pid)
