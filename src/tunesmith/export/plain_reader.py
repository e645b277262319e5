"""Use a model as any user of transformers or onnxruntime would. Run as `python -P plain_reader.py REQUEST`.

It is the proof that an exported model needs nothing of ours: tunesmith cannot be imported here.

REQUEST is a JSON file:

    reader           transformers, peft or onnx
    folder           the exported model, or the adapter
    base, config     for peft: the base model's folder, and one whose config.json says what head it has
    auto_class       for transformers and peft: the Auto class that loads it
    num_threads      threads of a forward pass
    timed            number of examples -> an .npz file with a batch of so many, which is timed

The first line on stdout is what loading and timing gave, as JSON. Then each line on stdin names an .npz file with a
batch; its logits are written beside it as .npy, and a line on stdout says so.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

sys.modules["tunesmith"] = None  # type: ignore[assignment]  # an import of it fails, wherever it is installed

Batch = dict[str, Any]
Model = Callable[[Batch], Any]

NUM_WARM_UPS, MIN_TIMED, MAX_TIMED = 2, 3, 15
MAX_TIMED_SECONDS = 5.0


def load_torch(request: dict[str, Any]) -> tuple[Callable[[], Model], int]:
    """How a model of transformers is loaded, with or without an adapter, and what the libraries take before."""
    import torch
    import transformers

    if request["reader"] == "peft":
        import peft
    auto_class = getattr(transformers, request["auto_class"])
    config = transformers.AutoConfig.from_pretrained(request["config"] or request["folder"], local_files_only=True)
    with torch.device("meta"):
        auto_class.from_config(config)  # without weights: imports the model's code, which is no part of its memory

    def load() -> Model:
        if request["reader"] == "peft":
            # The base model may have another head: the adapter brings its own.
            options = {"config": config, "ignore_mismatched_sizes": True, "dtype": torch.float32}
            base = auto_class.from_pretrained(request["base"], local_files_only=True, **options)
            model = peft.PeftModel.from_pretrained(base, request["folder"])
        else:
            model = auto_class.from_pretrained(request["folder"], local_files_only=True)
        model.eval()

        def run(batch: Batch) -> Any:
            with torch.inference_mode():
                logits = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits
            return logits.float().numpy()

        return run

    torch.set_num_threads(request["num_threads"])
    return load, read_memory("VmRSS")


def load_onnx(request: dict[str, Any]) -> tuple[Callable[[], Model], int]:
    """How an ONNX file is loaded, and what the library takes before."""
    import onnxruntime

    def load() -> Model:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request["num_threads"]
        path = str(Path(request["folder"]) / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["logits"], batch)[0]

    return load, read_memory("VmRSS")


def read_memory(name: str) -> int:
    """VmRSS, what this process holds in bytes, or VmHWM, the most that it ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins at what the process held that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_latency(model: Model, batch: Batch) -> float:
    """The median time of a forward pass in seconds, after some to warm up."""
    for _ in range(NUM_WARM_UPS):
        model(batch)
    seconds: list[float] = []
    while len(seconds) < MIN_TIMED or (len(seconds) < MAX_TIMED and sum(seconds) < MAX_TIMED_SECONDS):
        start = time.perf_counter()
        model(batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def read_batch(path: str) -> Batch:
    """The arrays of a batch."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def listen(asked: SimpleQueue[str]) -> None:
    """Pass on what is asked for, and end with whoever asks, also in the middle of loading or timing a model."""
    for line in sys.stdin:
        asked.put(line.strip())
    os._exit(0)


def main(path: str) -> None:
    """Load, time, and then answer batch by batch."""
    asked: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=listen, args=(asked,), daemon=True).start()
    request = json.loads(Path(path).read_bytes())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    load, before = load_onnx(request) if request["reader"] == "onnx" else load_torch(request)
    model = load()
    latency = {number: measure_latency(model, read_batch(batch)) for number, batch in request["timed"].items()}
    peak = max(0, read_memory("VmHWM") - before)
    print(json.dumps({"latency_seconds": latency, "peak_memory_bytes": peak}), file=answers, flush=True)
    while True:
        batch = asked.get()
        target = Path(batch).with_suffix(".npy")
        np.save(target, model(read_batch(batch)), allow_pickle=False)
        print(target, file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
