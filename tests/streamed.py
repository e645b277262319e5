"""Files that are streamed, in this process or in one that is killed; run as a script it is the latter."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from tunesmith.data.files import describe_file, tell_apart
from tunesmith.data.shuffling import Share
from tunesmith.data.sources import DataConfig, reader_options
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import RowStream, StreamDescription, StreamOrder, describe_stream
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.keys import file_sha256

SOURCE = Path(__file__).parents[1] / "src"


def find_file(path, options, source=0):
    """A file as `fetch` tells of it."""
    seen = path.stat()
    stamp = {"sha256": file_sha256(path), "size_bytes": seen.st_size, "mtime_ns": seen.st_mtime_ns}
    return replace(describe_file(path, options), source=source, **stamp)


class Streamed:
    """Files in a folder, with what a recipe does with them."""

    def __init__(self, folder, *sources, examples=None, split=None, sampled=10_000, **data):
        self.folder, self.sampled = folder, sampled
        section = json.dumps({"sources": sources or [{"files": ["*.jsonl"]}], **data})
        self.data = DataConfig.model_validate_json(section, context={"folder": folder})
        examples = examples or TextGeneration(kind="text-generation", text="text", max_new_tokens=8)
        self.config = StreamConfig(self.data, examples, split or SplitConfig())

    @property
    def files(self):
        found = []
        for index, source in enumerate(self.data.sources):
            for pattern in source.files:
                paths = sorted(Path(pattern).parent.glob(Path(pattern).name))
                found += [find_file(path, reader_options(source), index) for path in paths]
        return tell_apart(found)

    @property
    def quarantine(self):
        return self.folder / "quarantine"

    def describe(self):
        return describe_stream(self.files, self.config, self.sampled)

    def open(self, description=None, batch_rows=1000, **order):
        return RowStream(description or self.describe(), self.config, StreamOrder(**order), self.quarantine, batch_rows)

    def rows(self, description=None, **order):
        """All rows of an epoch, one after the other."""
        return [row for table in self.open(description, **order) for row in table.to_pylist()]


class KilledStream:
    """A stream whose process writes down what it was given, and where it was then; and is killed."""

    def __init__(self, streamed, **order):
        self.folder, self.order = streamed.folder, order
        self.log, self.state = self.folder / "log.txt", self.folder / "state.json"
        streamed.describe().write(self.folder / "stream.json")

    def start(self):
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, __file__, str(self.folder), json.dumps(self.order)]
        return subprocess.Popen(command, env=environ)

    def kill_at(self, num_bytes):
        """Start, and kill it when its log has grown to some bytes."""
        process = self.start()
        while not self.log.exists() or self.log.stat().st_size < num_bytes:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def finish(self):
        """Start, wait for the end, and give the sha256 of all that was ever given, and facts about the last process."""
        assert self.start().wait() == 0
        return hash_file(self.log), json.loads((self.folder / "facts.json").read_bytes())


def write_large(path, num_bytes):
    """A jsonl file of texts of about 2 KB each."""
    rng, words = random.Random(1), [f"w{number}" for number in range(5000)]
    texts = [" ".join(rng.sample(words, rng.randrange(100, 600))) for _ in range(1000)]
    with path.open("w") as file:
        size = row = 0
        while size < num_bytes:
            size += file.write(f'{{"id": {row}, "text": "{row} {texts[rng.randrange(1000)]}"}}\n')
            row += 1
    return path


def hash_file(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rss(name):
    """Bytes of memory of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def write_down(folder, order):
    """Read a stream to its end: the `id` of each row goes into the log, and the state beside it."""
    streamed = Streamed(folder)
    stream = streamed.open(StreamDescription.read(folder / "stream.json", streamed.files), **order)
    log, state = folder / "log.txt", folder / "state.json"
    start, memory, num_rows = time.perf_counter(), read_rss("VmRSS"), 0
    with log.open("ab") as file:
        if state.exists():
            saved = json.loads(state.read_bytes())
            stream.resume(saved["stream"])
            file.truncate(saved["num_bytes"])  # what came after the state was saved comes again
            file.seek(0, os.SEEK_END)
        for table in stream:
            file.write("".join(f"{value}\n" for value in table["id"].to_pylist()).encode())
            file.flush()
            num_rows += table.num_rows
            aside = folder / "state.aside"
            aside.write_text(json.dumps({"stream": stream.state(), "num_bytes": file.tell()}))
            aside.replace(state)
    growth = read_rss("VmHWM") - memory
    facts = {"seconds": time.perf_counter() - start, "num_rows": num_rows, "memory": memory, "growth": growth}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    write_down(Path(sys.argv[1]), {**options, "share": Share(**options.get("share", {}))})
