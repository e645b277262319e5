"""A real browser without a network, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

LOOK = """({
  scrollWidth: document.documentElement.scrollWidth, innerWidth: window.innerWidth,
  images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
  drawings: [...document.querySelectorAll('svg.picture')].map(svg => svg.getBoundingClientRect().width),
  tallestRow: Math.max(0, ...[...document.querySelectorAll('tbody tr')].map(row => row.offsetHeight)),
  title: document.title,
})"""
START_SECONDS, ANSWER_SECONDS = 60, 60


@dataclass
class Visit:
    """What a page did while it was opened.

    Attributes:
        found: What the page says of itself; see `LOOK`.
        screenshot: The whole page as a PNG.
        messages: What was written to the console, errors of the browser and of scripts included.
        requests: What was asked for, the page itself and data in it left out.
    """

    found: dict[str, Any]
    screenshot: bytes
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a profile of its own, that resolves no name."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: apt-get install --no-install-recommends chromium (.ci/run does it)"
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-port=0",
        f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_find_page(folder, process), max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(30)


def _find_page(folder: Path, process: subprocess.Popen[bytes]) -> str:
    end, told = time.monotonic() + START_SECONDS, folder / "DevToolsActivePort"
    while not (told.is_file() and told.read_text().count("\n")):
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        assert time.monotonic() < end, "chromium did not start"
        time.sleep(0.1)
    port = told.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [target for target in json.load(answer) if target["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])


class Browser:
    """One page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._number = connection, 0
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Log", "Runtime", "Network"):
            self._call(f"{domain}.enable")

    def visit(self, path: Path, width: int, *, is_dark: bool = False) -> Visit:
        """Open a file on a screen of some pixels' width."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        self._events.clear()
        self._call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())
        found = self._call("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        visit = Visit(found, base64.b64decode(shot))
        for event in self._events:
            self._note(event, visit, path.as_uri())
        return visit

    def _note(self, event: dict[str, Any], visit: Visit, page: str) -> None:
        if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            visit.messages.append(json.dumps(event["params"]))
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if url != page and not url.startswith("data:"):
                visit.requests.append(url)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._events.append(answer)

    def _receive(self) -> dict[str, Any]:
        return dict(json.loads(self._connection.recv(timeout=ANSWER_SECONDS)))
