"""A real MLflow server that can be killed, started again, and made to hang."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from databases import copy_mlflow_database


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class MlflowServer:
    """Its database and artifacts stay from one start to the next; so does its address."""

    def __init__(self, folder: Path) -> None:
        copy_mlflow_database(folder / "server.db")
        self.folder, self.port = folder, find_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it answers half a minute later."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self.folder,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError(self.uri)

    def hang(self) -> None:
        """It takes connections and answers none."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def query(self, text: str) -> list[tuple]:
        with sqlite3.connect(self.folder / "server.db") as connection:
            return connection.execute(text).fetchall()

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)
