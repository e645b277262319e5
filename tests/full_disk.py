"""Trainings on a disk that is full from some moment on: `python full_disk.py JOB.json POINT...`.

A limit on the size of files stands for the disk. It holds for root, too, the operating system refuses the write
whichever library asks for it (EFBIG where a full disk says ENOSPC), and a file is cut where the limit is.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path

from tunesmith.modeling.config import LoraConfig
from tunesmith.training import worker
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.job import Job
from tunesmith.training.state import WEIGHTS
from tunesmith.training.trained import weights_sha256

SAVE = {"loop": "tunesmith.training.loop:_Loop._save", "trainer": "transformers:Trainer._save_checkpoint"}


class Exited(BaseException):
    """In place of the end of this process."""


def exit_instead(code):
    raise Exited(code)


def limit_files(num_bytes):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))


def find_point(name, job):
    """Before which call the disk is full, and what still fits into a file then."""
    newest, spool = Checkpoints(job.work).newest(), job.spool
    points = {
        "row": ("tunesmith.training.spool:Spool.append", lambda: spool.stat().st_size + 10),
        "progress": ("tunesmith.training.reporter:Reporter._write", lambda: 0),
        "weights": (SAVE[job.train.engine], lambda: 20_000),
        "optimizer": (SAVE[job.train.engine], lambda: (newest / WEIGHTS.format(0)).stat().st_size + 100),
        "manifest": ("tunesmith.training.checkpoints:seal", lambda: 0),
        "result": ("tunesmith.training.trained:save_result", lambda: 20_000),
        "error": ("tunesmith.training.worker:write_json_atomically", lambda: 0),
    }
    return points[name]


def run(job, point=None):
    """The exit code of a training that goes on from the newest checkpoint."""
    job = job.model_copy(update={"checkpoint": Checkpoints(job.work).find_newest(), "parent_pid": os.getppid()})
    if point == "error":  # a mistake that is to be told in error.json
        job = job.model_copy(update={"lora": LoraConfig(target_modules=("no_such_layer",))})
    path = job.work / "job.json"
    path.write_text(job.model_dump_json())
    undo = None if point is None else fill_disk(*find_point(point, job))
    try:
        return worker.main(path, rank=0)
    except Exited as ended:
        return ended.args[0]
    finally:
        limit_files(resource.RLIM_INFINITY)
        if undo is not None:
            undo()


def fill_disk(place, find_limit):
    """Make the disk full before the second call of a function; returns what undoes that."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = []

    def full(*args, **kwargs):
        calls.append(name)
        if len(calls) == 2 or name in ("save_result", "write_json_atomically"):
            limit_files(find_limit())
        return original(*args, **kwargs)

    setattr(owner, name, full)
    return lambda: setattr(owner, name, original)


def main(job_path, points):
    from accelerate.state import AcceleratorState, PartialState

    os._exit = exit_instead
    job = Job.model_validate_json(job_path.read_bytes())
    told = []
    for point in [*points, None]:
        AcceleratorState._reset_state(True)
        PartialState._reset_state()
        before = Checkpoints(job.work).newest()
        code = run(job, point)
        after = Checkpoints(job.work)
        told.append(
            {
                "point": point,
                "code": code,
                "newest_before": before and before.name,
                "newest_after": after.newest() and after.newest().name,
                "intact": after.find_newest() == after.newest(),
                "spool_ends_in_a_row": job.spool.read_bytes()[-1:] == b"\n" if job.spool.exists() else None,
                "error_json": job.error.exists(),
            }
        )
    facts = {"sha256": weights_sha256(job.result / "model"), "rows": (job.result / "metrics.jsonl").read_text()}
    print(json.dumps({"told": told, **facts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
