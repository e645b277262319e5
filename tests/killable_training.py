"""Trainings in processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.base import LoraConfig, ModelConfig
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
        """Wait for one more than there was, and return the training process's id."""
        before = self.newest_step()
        wait_for(lambda: self.newest_step() > before)
        return json.loads((self.work / "progress.json").read_text())["pid"]


def dump_stream(stream):
    sections = {"data": stream.data, "split": stream.split}
    return {
        "snapshot": stream.snapshot.model_dump(),
        "fetched": stream.fetched.model_dump(),
        **{name: section.model_dump(mode="json", exclude_unset=True) for name, section in sections.items()},
    }


def wait_for(condition, seconds=120.0):
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
    """Kill the training process, interrupt and terminate its parent, and kill the parent: each after a checkpoint."""
    caller = trainings.start()
    os.kill(trainings.wait_for_checkpoint(), signal.SIGKILL)
    output, _ = caller.communicate(timeout=120)
    assert caller.returncode == 4
    assert "the training process was killed (SIGKILL)" in output
    assert "train.per_device_train_batch_size" in output
    assert str(trainings.work / "worker.log") in output

    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 3)):
        caller = trainings.start()
        worker, before = trainings.wait_for_checkpoint(), trainings.newest_step()
        caller.send_signal(number)
        output, shown = caller.communicate(timeout=120)
        assert caller.returncode == exit_code, output
        assert "writing a checkpoint before stopping" in shown
        assert "Traceback" not in output + shown
        assert not is_running(worker)
        assert trainings.newest_step() > before

    caller = trainings.start()
    worker = trainings.wait_for_checkpoint()
    caller.kill()
    caller.communicate()
    wait_for(lambda: not is_running(worker), seconds=30.0)


def assert_same(ref, whole):
    assert ref.facts["weights_sha256"] == whole.facts["weights_sha256"]
    assert (ref.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
