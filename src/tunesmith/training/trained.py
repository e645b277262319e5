"""What an engine hands over, and the result folder that is made of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tunesmith.modeling.load import merge
from tunesmith.modeling.quantize import save_quantization
from tunesmith.modeling.vocabulary import widen_vocabulary
from tunesmith.store.sealed import publish, seal
from tunesmith.training.best import Best
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.job import Job
from tunesmith.training.optimizer import find_decay
from tunesmith.training.prepared import build
from tunesmith.training.processes import find_rank
from tunesmith.training.reporter import Progress
from tunesmith.training.schedule import Schedule
from tunesmith.training.shards import is_sharded, put_together
from tunesmith.training.spool import SpoolReader
from tunesmith.training.state import changing_tensors


@dataclass(frozen=True)
class Trained:
    """A model that took all its steps.

    Attributes:
        model: The model, unwrapped.
        seconds: How long its training took, over all attempts.
        best: Which of its validations was the best.
        padding_fraction: How much of what went through the model was padding.
        max_micro_batch_tokens: Most tokens that went through the model at once, where something limits them.
    """

    model: Any
    seconds: float
    best: Best
    padding_fraction: float
    max_micro_batch_tokens: int | None


def find_whole_model(job: Job, model: Any, schedule: Schedule, step: int) -> Any:
    """A trained model with all of its weights; of a sharded one, in the first process, on the CPU.

    Args:
        job: What was trained.
        model: The model as it was after a step.
        schedule: The steps.
        step: That step.
    """
    widen_vocabulary(model, find_decay(job.train, schedule.learning_rates(step)))
    if not is_sharded(model):
        return model
    whole = build(job) if find_rank() == 0 else None
    places = {} if whole is None else changing_tensors(whole)
    for name, tensor in changing_tensors(model).items():
        values = put_together(tensor)  # one at a time: a device may have no room for all
        if whole is not None:
            places[name].copy_(values)
    return whole


def save_result(job: Job, trained: Trained, progress: Progress) -> None:
    """Write the result folder: the model or the adapter, the metrics, and the facts in its manifest."""
    folder = Checkpoints(job.work).new_aside()
    is_adapter = job.lora is not None and not job.merges
    weights = folder / ("adapter" if is_adapter else "model")
    model = merge(trained.model) if job.merges else trained.model
    model.save_pretrained(weights)
    if not is_adapter:
        shutil.copytree(job.features / "tokenizer", weights, dirs_exist_ok=True)
    else:
        _make_portable(weights)
    if job.quantization is not None:
        save_quantization(trained.model, weights)
    shutil.copyfile(job.spool, folder / "metrics.jsonl")
    facts = _find_facts(job, trained, progress) | {"weights_sha256": weights_sha256(weights)}
    if job.stream is not None:
        facts |= import_module("tunesmith.training.streaming").keep_refused(job, folder)
    seal(folder, {"facts": facts})
    publish(folder, job.result)


def weights_sha256(folder: Path) -> str:
    """The sha256 over the bytes of a folder's safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _find_facts(job: Job, trained: Trained, progress: Progress) -> dict[str, Any]:
    last: dict[str, float] = {}
    for row in SpoolReader(job.spool).read():
        last.update(row["metrics"])
    return {
        "num_steps": progress.step,
        "num_epochs": round(progress.epoch, 3),
        "num_parameters": progress.num_parameters,
        "num_trainable_parameters": progress.num_trainable_parameters,
        "train_loss": last["train/epoch_loss"],
        "validation_loss": trained.best.loss if job.train.keeps_best else last["validation/loss"],
        "kept_step": trained.best.step_to_keep(job.train),
        "stopped_early": trained.best.should_stop(job.train) and progress.step < progress.num_steps,
        "training_seconds": round(trained.seconds, 3),
        "examples_per_second": round(progress.num_examples / progress.seconds, 2) if progress.seconds else 0.0,
        "resumed_from_step": progress.first_step if job.checkpoint is not None else None,
        "batching": progress.batching,
        "why_batching": progress.why_batching,
        "padding_fraction": round(trained.padding_fraction, 4),
        "max_micro_batch_tokens": trained.max_micro_batch_tokens,
        "precision": progress.precision,
        "device": progress.device,
        "num_processes": job.train.num_processes,
        "fsdp": job.train.fsdp,
    }


def _make_portable(adapter: Path) -> None:
    """Take out of an adapter what differs from machine to machine and from run to run."""
    (adapter / "README.md").unlink(missing_ok=True)
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_bytes())
    config["base_model_name_or_path"] = None
    for name in ("target_modules", "target_parameters"):
        if isinstance(config[name], list):
            config[name].sort()  # peft keeps a set, whose order changes with each process
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
