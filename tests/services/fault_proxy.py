"""A proxy before an S3 server that makes its answers fail, a share of them each way, from a seed.

unavailable   503, and the request never reaches the server
stalled       no answer until the client has given up; the server did what was asked
truncated     half of the body, and then the connection ends
wrong         other bytes, as many as the right ones
"""

import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("unavailable", "stalled", "truncated", "wrong")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "server", "date"}


class FaultProxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: tuple[str, int], share: float, seed: int, stall_seconds: float, faults=FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), Forwarder)
        self.target = target
        self.share = share
        self.faults = faults
        self.stall_seconds = stall_seconds
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self) -> str:
        with self._lock:
            point = self._random.random() / self.share
            fault = self.faults[int(point)] if point < len(self.faults) else "none"
            self.counts[fault] += 1
            return fault

    def spoil(self, body: bytes) -> bytes:
        """One byte somewhere becomes another one."""
        with self._lock:
            place, change = self._random.randrange(len(body)), self._random.randrange(1, 256)
        return body[:place] + bytes([body[place] ^ change]) + body[place + 1 :]

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news."""


class Forwarder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def forward(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw()
        if fault == "unavailable":
            self.answer(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
            return
        status, headers, body = self.ask(sent)
        if fault == "stalled":
            time.sleep(self.server.stall_seconds)
            self.close_connection = True
            return
        if fault == "wrong" and body:
            body = self.server.spoil(body)
        self.answer(status, headers, body, is_cut=fault == "truncated" and bool(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

    def ask(self, sent: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(*self.server.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(sent or None)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def answer(self, status: int, headers, body: bytes, *, is_cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP and (name.lower() != "content-length" or self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        if is_cut:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if is_cut else body)
        self.close_connection = self.close_connection or is_cut

    def log_message(self, *args) -> None:
        pass


@contextmanager
def fault_proxy(target: str, *, share: float = 0.05, seed: int = 0, stall_seconds: float = 1.5, faults=FAULTS):
    """A running proxy before `target`, an `http://host:port`."""
    host, port = target.removeprefix("http://").split(":")
    proxy = FaultProxy((host, int(port)), share, seed, stall_seconds, faults)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
