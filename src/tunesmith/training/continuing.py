"""A training that begins where a start artifact says, and what its candidate remembers of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.store.ref import Ref
from tunesmith.tracking.lineage import ADAPTER, MODEL, ROWS_FILE, StartPoint, Training
from tunesmith.training.beginning import CHOSEN_FILE
from tunesmith.training.job import Job
from tunesmith.training.replay import ensure_chosen


def begin_at(job: Job, start: Ref) -> Job:
    """The job that begins from a champion and leaves old rows out, as the start artifact says.

    Args:
        job: The job that begins from the base model and has all rows.
        start: The start artifact.
    """
    part, changes = start.facts["part"], dict[str, Any]()
    if part == MODEL:
        changes |= {"base": start.folder.absolute() / MODEL, "merges": job.lora is not None}
    elif part == ADAPTER:
        changes |= {"adapter": start.folder.absolute() / ADAPTER}
    if (start.folder / CHOSEN_FILE).is_file():
        chosen = np.load(start.folder / CHOSEN_FILE, allow_pickle=False)
        ensure_chosen(job.features, chosen, job.work / "features")
        changes |= {"features": job.work / "features", "leaves_rows_out": True}
    return job.model_copy(update=changes)


def record_training(job: Job, start: Ref, base: str, folder: Path) -> dict[str, Any]:
    """Facts on what a candidate began from, and in its folder the rows that it has seen: enough to go on from it.

    Args:
        job: What was done.
        start: The start artifact.
        base: The digest of the recipe's base model.
        folder: The candidate's folder.
    """
    if (start.folder / ROWS_FILE).is_file():
        shutil.copyfile(start.folder / ROWS_FILE, folder / ROWS_FILE)
    point = start.facts["start"]
    training = Training(
        kind=job.examples.kind,
        base=base,
        labels=job.labels,
        lora=None if job.lora is None or job.merges else job.lora.key_fields(),
        quantization=job.quantization,
        rows=start.facts["rows"],
        seen=start.facts["seen"],
        start=None if point is None else StartPoint.model_validate(point),
    )
    return {"training": training.model_dump()}
