"""An exported model in a process of its own, which knows nothing of Tunesmith: it answers batch by batch."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from tunesmith.errors import TunesmithError

PLAIN_READER = Path(__file__).with_name("plain_reader.py")
TIMEOUT_SECONDS = 1800
"""How long an answer may take."""
NAMES = {"transformers": "plain transformers", "peft": "plain transformers with peft", "onnx": "onnxruntime"}

Array = np.ndarray[Any, Any]
Batch = Mapping[str, Array]


@dataclass(frozen=True)
class PlainModel:
    """How an exported model is loaded without Tunesmith.

    Attributes:
        reader: The library.
        folder: The exported model, or the adapter.
        auto_class: The name of the Auto class of transformers.
        base: The base model of an adapter.
        config: The folder whose config.json says what head the base model has with the adapter.
    """

    reader: Literal["transformers", "peft", "onnx"]
    folder: Path
    auto_class: str
    base: Path | None = None
    config: Path | None = None


class CleanProcess:
    """A process that has loaded a model; made by `open_plainly`."""

    def __init__(self, process: subprocess.Popen[str], said: IO[str], folder: Path, library: str) -> None:
        self._process, self._said, self._folder, self._library = process, said, folder, library
        found = json.loads(self._read())
        self.latency_seconds: dict[str, float] = found["latency_seconds"]
        """The median time of a forward pass, by the number of its examples."""
        self.peak_memory_bytes: int = found["peak_memory_bytes"]
        """What loading and the timed forward passes took at the most, beyond the libraries."""

    def compute_logits(self, batch: Batch) -> Array:
        """The logits of a batch, in fp32.

        Raises:
            TunesmithError: The process ended, with its last words, or does not answer.
        """
        assert self._process.stdin is not None
        path = save_batch(batch, self._folder / "batch.npz")
        try:
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._explain_end() from None
        answer = Path(self._read().strip())
        logits: Array = np.load(answer, allow_pickle=False)
        answer.unlink()
        return logits

    def _read(self) -> str:
        """The next line; there is never more than one that nobody has read."""
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], TIMEOUT_SECONDS)[0]:
            raise TunesmithError(
                f"{self._library} gives no answer from the exported model within {TIMEOUT_SECONDS} s; nothing is "
                "published. Give the machine more memory or fewer other tasks."
            )
        line = stdout.readline()
        if not line:
            raise self._explain_end()
        return line

    def _explain_end(self) -> TunesmithError:
        code = self._process.wait()
        self._said.seek(0)
        last_words = "\n".join(self._said.read().strip().splitlines()[-3:]) or "it said nothing"
        return TunesmithError(
            f"{self._library} cannot use the exported model (exit {code}); nothing is published:\n{last_words}"
        )


@contextmanager
def open_plainly(model: PlainModel, timed: Mapping[str, Batch], num_threads: int) -> Iterator[CleanProcess]:
    """Load a model in a clean process, which ends with the block.

    Args:
        model: The model.
        timed: Batches whose forward pass is timed, by the number of their examples.
        num_threads: Threads of a forward pass.

    Raises:
        TunesmithError: The library cannot load it or compute with it.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-parity-") as name, (Path(name) / "said").open("w+") as said:
        folder = Path(name)
        request = {
            **{field: _describe(value) for field, value in vars(model).items()},
            "num_threads": num_threads,
            "timed": {
                number: str(save_batch(batch, folder / f"timed-{number}.npz")) for number, batch in timed.items()
            },
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        # -P: not from this package's folder. Where the libraries are installed is the user's affair.
        command = [sys.executable, "-P", str(PLAIN_READER), str(folder / "request.json")]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, cwd=folder
        )
        with process:
            try:
                yield CleanProcess(process, said, folder, NAMES[model.reader])
            finally:
                process.kill()


def _describe(value: str | Path | None) -> str | None:
    """A field for the process, which works in another folder."""
    return str(value.absolute()) if isinstance(value, Path) else value


def save_batch(batch: Batch, path: Path) -> Path:
    """Write the model's inputs of a batch, without its labels."""
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    np.savez(path, allow_pickle=False, **inputs)
    return path
