"""Trainings in processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.training.config import TrainConfig
from tunesmith.training.train import derive_train, train

CLASSIFICATION = TextClassification(kind="text-classification", text="text", label="label")
LONG = {"per_device_train_batch_size": 2, "num_epochs": 5, "learning_rate": 1e-3, "save_steps": 20, "logging_steps": 7}
"""145 steps: a second or more, of which a test can kill one."""

SOURCE = Path(__file__).parents[1] / "src"


class Told:
    """An observer that remembers."""

    def __init__(self):
        self.calls, self.rows_seen = [], []

    def started(self, candidate_key, facts):
        self.calls.append(("started", candidate_key, facts["resumed_from_step"]))

    def rows(self, rows):
        self.rows_seen.extend(rows)

    def ended(self, status):
        self.calls.append(("ended", status))


class Trainings:
    """The same training, again and again in one store: in this process, or in one that can be killed."""

    def __init__(self, folder, features, base, *, lora=False, quantization=None, stream=None, store=None, **options):
        folder.mkdir(exist_ok=True)
        self.folder, self.config = folder, store or StoreConfig(uri=str(folder / "store"))
        self.store = open_store(self.config)
        model = ModelConfig(base=str(base), lora=LoraConfig(r=2) if lora else None, quantization=quantization)
        self.arguments = (features, CLASSIFICATION, model, TrainConfig(**{**LONG, **options}), self.store)
        self.stream = stream
        self.work = self.store.root / "work" / "train" / derive_train(*self.arguments, stream=stream).key

    @property
    def num_processes(self):
        return self.arguments[3].num_processes

    def here(self, observer=None):
        return train(*self.arguments, observer, self.stream)

    def start(self):
        features, _, model, config, _ = self.arguments
        arguments = {
            "features": features.model_dump(),
            "model": model.model_dump(),
            "train": config.model_dump(),
            "store": self.config.model_dump(mode="json", exclude_unset=True),
            "stream": self.stream and dump_stream(self.stream),
        }
        (self.folder / "arguments.json").write_text(json.dumps(arguments))
        caller = Path(__file__).with_name("training_caller.py")
        return subprocess.Popen(
            [sys.executable, str(caller), str(self.folder / "arguments.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )

    def newest_step(self):
        return max((int(path.name[-8:]) for path in self.work.glob("checkpoints/step-*")), default=0)

    def wait_for_checkpoint(self):
        """Wait for one more than there was; gives the id of the process that wrote it."""
        before = self.newest_step()
        wait_for(lambda: self.newest_step() > before)
        return json.loads((self.work / "progress.json").read_text())["pid"]


def find_ranks(caller):
    """The ids of the processes in which a caller trains, in the order of their ranks."""
    children = psutil.Process(caller.pid).children()
    return [child.pid for child in sorted(children, key=lambda child: int(child.environ().get("RANK", "0")))]


def dump_stream(stream):
    sections = {"data": stream.data, "split": stream.split}
    return {
        "snapshot": stream.snapshot.model_dump(),
        "fetched": stream.fetched.model_dump(),
        **{name: section.model_dump(mode="json", exclude_defaults=True) for name, section in sections.items()},
    }


def wait_for(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_in_every_way(trainings):
    """Kill each training process, interrupt and terminate their parent, and kill the parent: all after a checkpoint."""
    for rank in range(trainings.num_processes):
        kill_rank(trainings, rank)
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 3)):
        caller = trainings.start()
        trainings.wait_for_checkpoint()
        workers, before = find_ranks(caller), trainings.newest_step()
        caller.send_signal(number)
        output, shown = caller.communicate(timeout=240)
        assert caller.returncode == exit_code, output
        assert "writing a checkpoint before stopping" in shown
        assert "Traceback" not in output + shown
        assert not any(map(is_running, workers))
        assert trainings.newest_step() > before

    kill_parent(trainings)


def kill_rank(trainings, rank):
    """Kill one of the training processes after a checkpoint; the others end, too."""
    caller = trainings.start()
    trainings.wait_for_checkpoint()
    workers = find_ranks(caller)
    assert len(workers) == trainings.num_processes
    os.kill(workers[rank], signal.SIGKILL)
    output, _ = caller.communicate(timeout=240)
    assert caller.returncode == 4
    which = "the training process" if len(workers) == 1 else f"one of the {len(workers)} training processes"
    assert f"{which} was killed (SIGKILL)" in output
    assert "train.per_device_train_batch_size" in output
    assert str(trainings.work / (f"worker-{rank}.log" if rank else "worker.log")) in output
    assert not any(map(is_running, workers))


def stop_rank(trainings, rank):
    """Ask one of the training processes to stop, after a checkpoint: they stop together, at another one."""
    caller = trainings.start()
    trainings.wait_for_checkpoint()
    workers, before = find_ranks(caller), trainings.newest_step()
    os.kill(workers[rank], signal.SIGTERM)
    output, _ = caller.communicate(timeout=240)
    assert caller.returncode == 3, output
    assert trainings.newest_step() > before
    assert not any(map(is_running, workers))


def kill_parent(trainings):
    """Kill what started the training processes, after a checkpoint: they end by themselves."""
    caller = trainings.start()
    trainings.wait_for_checkpoint()
    workers = find_ranks(caller)
    caller.kill()
    caller.communicate()
    wait_for(lambda: not any(map(is_running, workers)), seconds=30.0)  # 2 on an idle machine


def assert_same(ref, whole):
    assert ref.facts["weights_sha256"] == whole.facts["weights_sha256"]
    assert (ref.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
