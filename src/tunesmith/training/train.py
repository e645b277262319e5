"""Fine-tune the base model: the candidate."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tunesmith.kinds import Examples, kind_module
from tunesmith.modeling.base import ModelConfig, find_base
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref
from tunesmith.store.sealed import MANIFEST, read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.job import Job
from tunesmith.training.launcher import launch
from tunesmith.training.lock import hold
from tunesmith.training.observer import GuardedObserver, Observer

_LIBRARIES = ("accelerate", "numpy", "safetensors", "torch", "transformers")


def derive_train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    store: FolderStore,
    observer: Observer | None = None,
) -> Derivation:
    """Describe a candidate.

    Args:
        features: The encode artifact; in a plan it need not exist yet.
        examples: The kind of task.
        model: The base model.
        train: How to train.
        store: Where the work folder lies; used only when the candidate is built.
        observer: Is told of the training while it runs.

    Raises:
        ModelError: There is no such base model.
    """
    base = find_base(model)
    ingredients = compose_ingredients(
        config={
            "examples": examples.key_fields(),
            "model": model.key_fields(),
            "train": train.key_fields(),
        },
        inputs={"features": features.key, "base model": base.digest},
        code=("tunesmith.training.worker", f"tunesmith.training.{train.engine}", kind_module(examples)),
        libraries=_LIBRARIES if model.lora is None else (*_LIBRARIES, "peft"),
    )

    def build(aside: Path) -> Facts:
        work = store.work_folder(derivation.kind, derivation.key).absolute()
        with hold(work) as lock:
            made_meanwhile = store.status(derivation).ref
            if made_meanwhile is not None:
                shutil.copytree(
                    made_meanwhile.folder, aside, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True
                )
                return made_meanwhile.facts
            job = _describe_job(work, features, examples, model, train, base.folder)
            facts = {"engine": train.engine, "num_examples": features.facts["num_examples"]}
            return _take(launch(job, lock, derivation.key, GuardedObserver(observer), facts), aside)

    derivation = Derivation("train", ingredients, build)  # `build` names it: the work folder has its key
    return derivation


def train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    store: FolderStore,
    observer: Observer | None = None,
) -> Ref:
    """Fine-tune the base model in a process of its own, or find the candidate that was trained before.

    A training that was killed or stopped continues from its newest valid checkpoint.

    Args:
        features: The encode artifact.
        examples: The kind of task.
        model: The base model.
        train: How to train.
        store: Where the candidate goes.
        observer: Is told of the training while it runs.

    Raises:
        Preempted: Training was stopped, and can be continued.
        UserError: The data, the base model or the precision cannot be used.
        TrainingError: The training process ended without a result.
    """
    derivation = derive_train(features, examples, model, train, store, observer)
    ref = store.ensure(derivation)
    work = store.root / "work" / derivation.kind / derivation.key
    shutil.rmtree(work, ignore_errors=True)
    return ref


def _describe_job(
    work: Path, features: Ref, examples: Examples, model: ModelConfig, train: TrainConfig, base: Path
) -> Job:
    return Job(
        work=work,
        features=features.folder.absolute(),
        base=base.absolute(),
        examples=examples,
        labels=tuple(features.facts["labels"]),
        pad_token_id=features.facts["pad_token_id"],
        lora=model.lora,
        train=train,
        checkpoint=None,
        parent_pid=os.getpid(),
    )


def _take(result: Path, aside: Path) -> Facts:
    """Move a result's files to where the store wants them; its manifest held the facts."""
    manifest = read_manifest(result)
    assert manifest is not None
    for path in result.iterdir():
        if path.name != MANIFEST:
            path.rename(aside / path.name)
    facts: Facts = manifest.header["facts"]
    return facts
