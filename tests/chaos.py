"""Trainings that are killed at drawn points of their whole life, for real, and must end as if nobody had."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

from killable_training import assert_same, is_running, wait_for
from tunesmith.training.reporter import read_progress

CYCLE = ("save", "step", "loading", "validation", "save", "step", "step", "save", "loading", "end")
"""What is aimed at; a third of it is the inside of a save."""

LIFE = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 8, "logging_steps": 3}
NUM_STEPS = 580
MAPPED = {**LIFE, "num_epochs": 20}
STREAMED = {**LIFE, "max_steps": NUM_STEPS, "validation_steps": 29}
"""Twenty validations, and a checkpoint every 8 steps."""

EXIT_CODES = {
    (signal.SIGKILL, "worker"): {4},
    (signal.SIGKILL, "parent"): {-signal.SIGKILL},
    (signal.SIGTERM, "worker"): {3},
    (signal.SIGTERM, "parent"): {3, -signal.SIGTERM},  # the latter while it publishes
}


@dataclass(frozen=True)
class Kill:
    """A signal, and when it is sent: at the first `point` behind a step, some seconds later."""

    point: str
    step: int
    number: signal.Signals
    target: str
    delay: float


def draw_kills(seed, num_sigkills, num_sigterms, num_steps=NUM_STEPS):
    """The kills of a training of some steps, in the order of its life; those at its end come last."""
    rng = random.Random(seed)
    numbers = [signal.SIGKILL] * num_sigkills + [signal.SIGTERM] * num_sigterms
    rng.shuffle(numbers)
    kills = []
    for index, number in enumerate(numbers):
        point = CYCLE[index % len(CYCLE)]
        step = num_steps if point == "end" else rng.randrange(1, num_steps - 40)
        delay = rng.uniform(0, {"loading": 2.0, "end": 0.3}.get(point, 0.003))
        kills.append(Kill(point, step, number, rng.choice(("worker", "worker", "parent")), delay))
    return sorted(kills, key=lambda kill: kill.step)


class Chaos:
    """One training after the other, each killed again and again, until every kill was delivered.

    Args:
        make_trainings: Given a name, a training in a folder of its own.
    """

    def __init__(self, make_trainings):
        self._make = make_trainings
        self._pid = 0
        self.ends = []
        self.landed = Counter()
        self.sent = Counter()

    def run(self, kills):
        """Deliver every kill; afterwards `ends` holds what each training ended as."""
        begun = time.monotonic()
        trainings = self._make("life-1")
        for kill in kills:
            is_sent = False
            while not is_sent:
                is_sent, has_ended = self._deliver(trainings, kill)
                kill = replace(kill, delay=kill.delay / 2)  # a process that was gone by then would always be
                if has_ended:  # before it could be killed, or in spite of a signal that came too late
                    trainings = self._end(trainings)
        self._end(trainings)
        self.seconds = time.monotonic() - begun

    def summary(self):
        sent = ", ".join(f"{number.name} to the {target} {count}" for (number, target), count in self.sent.items())
        landed = ", ".join(f"{place} {count}" for place, count in self.landed.most_common())
        return (
            f"{self.sent.total()} kills ({sent}); they landed in {landed}; {len(self.ends)} trainings, "
            f"{self.seconds:.0f} s"
        )

    def _end(self, trainings):
        self.ends.append(trainings.here())
        return self._make(f"life-{len(self.ends) + 1}")

    def _deliver(self, trainings, kill):
        """Start the training and kill it; gives whether the signal was sent, and whether training ended."""
        caller = trainings.start()
        progress = self._wait_for(trainings, kill, caller)
        is_sent = progress is not None
        if is_sent:
            time.sleep(kill.delay)
            place = self._find_place(trainings)
            target = progress.pid if kill.target == "worker" else caller.pid
            is_sent = is_running(target)
            with suppress(ProcessLookupError):
                os.kill(target, kill.number)
        output, shown = caller.communicate(timeout=240)
        assert "Traceback" not in output + shown, output + shown
        assert caller.returncode in {0, *EXIT_CODES[kill.number, kill.target]}, output + shown
        if is_sent:
            wait_for(lambda: not is_running(progress.pid))
            self._pid = progress.pid
            has_fallen = kill.number == signal.SIGKILL and kill.target == "worker" and caller.returncode != 0
            self.landed[self._find_place(trainings) if has_fallen else place] += 1
            self.sent[kill.number, kill.target] += 1
        return is_sent, caller.returncode == 0

    def _wait_for(self, trainings, kill, caller):
        """The progress of the training process when the point is there; None where the training ended first."""
        is_behind = False
        while caller.poll() is None:
            progress = read_progress(trainings.work / "progress.json")
            if progress is not None and progress.pid != self._pid:
                if kill.point == "loading":
                    return progress
                is_behind = is_behind or (progress.phase != "loading" and find_last_row(trainings) >= kill.step)
                if is_behind and self._is_at(trainings, kill.point, progress):
                    return progress
            time.sleep(0.0003)
        return None

    def _is_at(self, trainings, point, progress):
        if point == "save":
            return is_saving(trainings.work)
        if point == "end":
            return progress.phase == "saving" and progress.step == progress.num_steps
        return point != "validation" or progress.phase == "validating"

    def _find_place(self, trainings):
        if is_saving(trainings.work):
            return "a save"
        if (trainings.work / "result").exists():
            return "publishing"
        progress = read_progress(trainings.work / "progress.json")
        return "the end" if progress is None else progress.phase


def is_saving(work):
    """Whether something lies aside that is not complete, or not yet deleted."""
    return any(path.name != "trainer" for path in work.glob("aside/*")) or any(work.glob("aside/trainer/*"))


def find_last_row(trainings):
    """The step of the last whole row, 0 where there is none."""
    spool = trainings.work / "metrics.jsonl"
    lines = spool.read_bytes().split(b"\n")[:-1] if spool.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def assert_unharmed(chaos, whole, kills):
    """Every training ended as the undisturbed one, and kills did land inside of saves."""
    for ref in chaos.ends:
        assert_same(ref, whole)
    assert chaos.sent.total() == len(kills)
    rows = [json.loads(line) for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    told = [(row["step"], name) for row in rows for name in row["metrics"]]
    assert len(told) == len(set(told))
    num_aimed = sum(kill.point == "save" for kill in kills)
    assert chaos.landed["a save"] >= num_aimed / 2, chaos.summary()
