"""Which Prefect server a run reports to: the one that PREFECT_API_URL names, or one of its own for as long as it lasts.

Prefect can start a temporary server, too, but only after its client is imported, and it survives a killed parent. Ours
starts while the rest is still being imported, is started again when it dies, and ends with its parent.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from tunesmith.cli.importing import uncollected
from tunesmith.errors import TunesmithError
from tunesmith.home import Home

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
START_SECONDS = 120
"""How long a server may take to answer for the first time; a loaded machine needs half a minute."""
STOP_SECONDS = 10
"""How long a server may take to write down the last states."""
MAX_STARTS = 5
"""A new SQLite database can be found locked while it is being made; the next start finds it made."""
REACH_SECONDS = 5
"""How long a server that is named may take to answer."""

PREFECT_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tunesmith",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""No telemetry; our log lines go to Prefect's page of the run, and nobody else's to the user's screen."""


class EmbeddedServer:
    """A Prefect server in a process of its own, on a port of its own, with its database in TUNESMITH_HOME."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._listener = socket.create_server((LOOPBACK, 0))
        self._num_starts = 0
        self._process = self._start()
        self._is_stopping = threading.Event()
        self._watcher = threading.Thread(target=self._keep_alive, name="prefect-server-watcher", daemon=True)

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL has to be."""
        return f"http://{LOOPBACK}:{self._listener.getsockname()[1]}/api"

    def wait_until_up(self) -> None:
        """Wait for the first answer, and watch over it from then on; a server that ends is started again.

        Raises:
            TunesmithError: It did not come up.
        """
        deadline = time.monotonic() + START_SECONDS
        if not self._is_up():
            log.info("waiting for the embedded Prefect server")
        while not self._is_up():
            if not self._revive() and (self._process.poll() is not None or time.monotonic() > deadline):
                raise TunesmithError(
                    f"the embedded Prefect server did not start; its log is {self._log_file}. "
                    "Run the command again, or start a server (`prefect server start`) and set PREFECT_API_URL."
                )
            time.sleep(0.1)
        self._watcher.start()

    def stop(self) -> None:
        """End the server after it has written down the last states."""
        self._is_stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipe()
        self._listener.close()

    def _keep_alive(self) -> None:
        """Start a server that died: what it knew is on the disk, and whoever asks meanwhile waits at its address."""
        while not self._is_stopping.wait(0.5):
            if self._revive():
                log.warning("the embedded Prefect server ended and is started again; its log is %s", self._log_file)

    def _revive(self) -> bool:
        if self._process.poll() is None or self._num_starts >= MAX_STARTS:
            return False
        self._close_pipe()
        self._process = self._start()
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        self._num_starts += 1
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                # -P: a module of the user's that lies in the working directory is none of Prefect's
                [sys.executable, "-P", "-m", "tunesmith.cli.prefect_server", str(self._listener.fileno())],
                stdin=subprocess.PIPE,  # its end tells the server that we are gone
                stdout=log,
                stderr=log,
                pass_fds=[self._listener.fileno()],
                start_new_session=True,  # Ctrl-C is for the run, which still has states to report
            )

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api_url}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


@contextmanager
def prefect_server(home: Home, environ: MutableMapping[str, str]) -> Iterator[EmbeddedServer | None]:
    """Set the environment up for Prefect's client, before it is imported.

    Args:
        home: Where the embedded server keeps its database.
        environ: The environment; what the user has set stays, but no proxy stands between an embedded server and us.

    Yields:
        A server that is starting, or None where PREFECT_API_URL names one.
    """
    for name, value in PREFECT_ENVIRONMENT.items():
        environ.setdefault(name, value)
    if environ.get("PREFECT_API_URL"):  # its key may be in the profile of the user's own PREFECT_HOME
        yield None
        return
    environ.setdefault("PREFECT_HOME", str(home.prefect_folder))
    server = EmbeddedServer(home.log_folder / "prefect-server.log")
    _bypass_proxies(environ)
    environ["PREFECT_API_URL"] = server.api_url
    try:
        yield server
    finally:
        del environ["PREFECT_API_URL"]
        server.stop()


def _bypass_proxies(environ: MutableMapping[str, str]) -> None:
    """Have what this machine says to itself go past the proxies that are set."""
    hosts = [host.strip() for host in environ.get("no_proxy", environ.get("NO_PROXY", "")).split(",") if host.strip()]
    if LOOPBACK not in hosts and "*" not in hosts:
        environ["no_proxy"] = environ["NO_PROXY"] = ",".join([*hosts, LOOPBACK])


def check_named_server(url: str) -> None:
    """See that the server that PREFECT_API_URL names is there, before anything is computed.

    Raises:
        TunesmithError: It does not answer.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=REACH_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # somebody is there; what it refuses, Prefect's client says
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise TunesmithError(
            f"the Prefect server {url} cannot be reached ({reason}). Start it, correct PREFECT_API_URL, or unset it: "
            "then the run brings its own."
        ) from error


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(descriptor: int) -> None:
    os.environ.update({"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"})
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with uncollected():
        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app()
    uvicorn.run(app, fd=descriptor, log_level="critical")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
