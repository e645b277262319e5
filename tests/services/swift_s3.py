"""OpenStack Swift on one node, for its S3 API, which checks signatures: everything in one folder, on loopback ports.

Swift installs into a virtual environment of its own, kept in the user's cache folder for the next time.
"""

import fcntl
import getpass
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

VERSION = "2.38.3"
ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
RINGS = ("account", "container", "object")
MIDDLEWARE = {
    "catch_errors": "",
    "gatekeeper": "",
    "listing_formats": "",
    "bulk": "",
    "s3api": f"location = {REGION}",
    "tempauth": "user_test_tester = testing .admin",
    "copy": "",
    "slo": "minimum_segment_size = 1",
    "dlo": "",
    "versioned_writes": "allow_object_versioning = true",
    "symlink": "",
}


def ensure_swift() -> Path:
    """The folder of Swift's commands; installed where it is not there yet.

    Raises:
        AssertionError: pip cannot install it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"swift-{VERSION}-py{sys.version_info.major}{sys.version_info.minor}"
    with (cache / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(folder)
    return folder / "bin"


def _install(folder: Path) -> None:
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"swift=={VERSION}"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, f"Swift cannot be installed; {' '.join(command)} says:\n{done.stderr[-2000:]}"
    (folder / "complete").touch()


@contextmanager
def swift_s3(folder: Path):
    """A running Swift.

    Args:
        folder: Where it keeps everything, on a file system with extended attributes.

    Yields:
        The address of its S3 API.
    """
    commands, ports = ensure_swift(), _free_ports(4)
    _configure(folder, commands, ports)
    processes = [_start(folder, commands, name) for name in (*RINGS, "proxy")]
    try:
        _wait(folder, f"http://127.0.0.1:{ports[3]}", processes)
        yield f"http://127.0.0.1:{ports[3]}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configure(folder: Path, commands: Path, ports: list[int]) -> None:
    (folder / "node" / "d1").mkdir(parents=True)
    policy = "[storage-policy:0]\nname = gold\ndefault = yes\n"
    (folder / "swift.conf").write_text(
        f"[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n{policy}"
    )
    base = f"bind_ip = 127.0.0.1\nworkers = 0\nuser = {getpass.getuser()}\nswift_dir = {folder}\nlog_level = WARNING\n"
    for name, port in zip(RINGS, ports, strict=False):
        for arguments in (["create", "2", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
            builder = [str(commands / "swift-ring-builder"), str(folder / f"{name}.builder"), *arguments]
            subprocess.run(builder, check=True, capture_output=True)
        disks = f"devices = {folder}/node\nmount_check = false\ndisable_fallocate = true\nfallocate_reserve = 0\n"
        app = f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        (folder / f"{name}.conf").write_text(f"[DEFAULT]\n{base}bind_port = {port}\n{disks}{app}")
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n{line}\n" for name, line in MIDDLEWARE.items())
    app = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    pipeline = f"[pipeline:main]\npipeline = {' '.join(MIDDLEWARE)} proxy-server\n"
    (folder / "proxy.conf").write_text(f"[DEFAULT]\n{base}bind_port = {ports[3]}\n{pipeline}{app}{filters}")


def _start(folder: Path, commands: Path, name: str) -> subprocess.Popen:
    with (folder / f"{name}.log").open("w") as log:
        command = [str(commands / f"swift-{name}-server"), str(folder / f"{name}.conf")]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _wait(folder: Path, url: str, processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{url}/info", timeout=5).close()
            return
        except OSError:
            logs = "\n".join(path.read_text()[-1000:] for path in folder.glob("*.log"))
            assert all(process.poll() is None for process in processes), f"Swift ended:\n{logs}"
            assert time.monotonic() < deadline, f"Swift does not answer:\n{logs}"
            time.sleep(0.1)
