"""Fine-tune the base model: the candidate."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tunesmith.data.nearest import find_nearest
from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.errors import UserError, raise_all
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.modeling.base import Base, find_base
from tunesmith.modeling.config import LoraConfig, ModelConfig, adapter_libraries
from tunesmith.modeling.memory import check_quantizable, check_targets, has_matrices_alone
from tunesmith.modeling.quantize import check_installed
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref
from tunesmith.store.sealed import MANIFEST, read_manifest
from tunesmith.training.batching import PACKING, may_pack
from tunesmith.training.callbacks import check_callbacks, digest_callbacks
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.config import TrainConfig
from tunesmith.training.continuing import begin_at, record_training
from tunesmith.training.disk import told_in_words
from tunesmith.training.job import Job, StreamJob
from tunesmith.training.launcher import launch
from tunesmith.training.lock import hold, hold_if_free
from tunesmith.training.mirror import CheckpointMirror
from tunesmith.training.mirroring import Mirroring
from tunesmith.training.observer import GuardedObserver, Observer
from tunesmith.training.schedule import check_batch_size, check_validations

_LIBRARIES = ("accelerate", "numpy", "safetensors", "torch", "transformers")


@dataclass(frozen=True)
class StreamInput:
    """Where the training examples of a stream come from; without `data.streaming`, nothing is made of it.

    Attributes:
        snapshot: The snapshot artifact that the features are of; in a plan it need not exist yet.
        fetched: What was fetched for it.
        data: The recipe's section on the data.
        split: The recipe's section on the split.
    """

    snapshot: Ref
    fetched: Ref
    data: DataConfig
    split: SplitConfig


def derive_train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    store: FolderStore,
    observer: Observer | None = None,
    stream: StreamInput | None = None,
    start: Ref | None = None,
    until_published: ExitStack | None = None,
) -> Derivation:
    """Describe a candidate.

    Args:
        features: The encode artifact; in a plan it need not exist yet.
        examples: The kind of task.
        model: The base model.
        train: How to train.
        store: Where the work folder lies; used only when the candidate is built.
        observer: Is told of the training while it runs.
        stream: Where the training examples come from, when the data is streamed.
        start: What training begins from; without it, the base model. In a plan it need not exist yet.
        until_published: Holds on to the work folder from when the candidate is built; needed to build it.

    Raises:
        ModelError: There is no such base model, it has none of the layers that the adapter is for, or what quantizes
            it is not installed.
        DataError: There is no such callback.
        UserError: A step takes more examples than there are, a class weight is for no label, or the best of a single
            validation is asked for; as far as these are known. All mistakes at once.
    """
    base = find_base(model)
    _check(base, features, examples, model, train, start)
    asked, code = _describe_stream(stream, train)
    engine = f"tunesmith.training.{train.engine}"
    packing = (PACKING,) if may_pack(train, has_padding=find_kind(examples).CUTS_TEXTS) else ()
    begun, replay = _describe_start(start, model)
    ingredients = compose_ingredients(
        config={
            "examples": examples.key_fields(),
            "model": {**model.key_fields(), **replay},
            "train": train.key_fields(),
            **({"callbacks": digest_callbacks(train.callbacks)} if train.callbacks else {}),
            **asked,
        },
        inputs={"features": features.key, "base model": base.digest, **begun},
        code=("tunesmith.training.worker", engine, kind_module(examples), *code, *packing),
        libraries=(*_LIBRARIES, *adapter_libraries(model)),
    )

    def build(aside: Path) -> Facts:
        work = store.work_folder(derivation.kind, derivation.key).absolute()
        assert until_published is not None
        lock = until_published.enter_context(hold(work))
        made_meanwhile = store.status(derivation).ref
        if made_meanwhile is not None:
            return _copy(made_meanwhile, aside)
        job = _describe_job(work, features, examples, model, train, base.folder, stream)
        if start is not None:
            job = begin_at(job, start)
        facts = {"engine": train.engine, "num_examples": features.facts["num_examples"]}
        mirroring = Mirroring(_open_mirror(store, derivation, work))
        with told_in_words(work):
            result = launch(job, lock, derivation.key, GuardedObserver(observer), facts, mirroring)
        trained = _take(result, aside)
        return trained if start is None else {**trained, **record_training(job, start, base.digest, aside)}

    derivation = Derivation("train", ingredients, build)  # `build` names it: the work folder has its key
    return derivation


def train(
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    store: FolderStore,
    observer: Observer | None = None,
    stream: StreamInput | None = None,
    start: Ref | None = None,
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
        stream: Where the training examples come from, when the data is streamed.
        start: What training begins from; without it, the base model, and nobody can go on from the candidate.

    Raises:
        Preempted: Training was stopped, and can be continued.
        UserError: The data, the base model or the precision cannot be used.
        TrainingError: The training process ended without a result.
    """
    with ExitStack() as until_published:
        derivation = derive_train(features, examples, model, train, store, observer, stream, start, until_published)
        candidate = store.ensure(derivation)
    discard_leftovers(candidate, store)
    return candidate


def discard_leftovers(candidate: Ref, store: FolderStore) -> None:
    """Delete what the training of a candidate has left here and on S3, unless a process is at it.

    Where another machine went on from a checkpoint of this one, or a deletion was cut short, nobody else does.
    """
    if not store.has_work(candidate.kind, candidate.key):
        return
    with hold_if_free(store.work_folder(candidate.kind, candidate.key)) as is_free:
        if is_free:
            store.discard_work(candidate.kind, candidate.key)


def _check(
    base: Base, features: Ref, examples: Examples, model: ModelConfig, train: TrainConfig, start: Ref | None
) -> None:
    """Refuse what would fail only when the training process has begun, all of it at once."""
    checks = list[Callable[[], None]]()
    if model.lora is not None:
        checks.append(partial(_check_adapter, base.folder, examples, model.lora))
    if model.quantization is not None:
        checks += [check_installed, partial(check_quantizable, base.folder)]
    if train.callbacks:
        checks.append(partial(check_callbacks, train.callbacks))
    if features.facts:
        checks.append(partial(_check_class_weights, train, features.facts["labels"]))
        if train.validation_steps is None:
            checks += _find_schedule_checks(train, features.facts["num_examples"]["train"], start)
    raise_all(checks)


def _check_adapter(base: Path, examples: Examples, lora: LoraConfig) -> None:
    check_targets(base, lora)
    if not has_matrices_alone(base):
        # It takes ten seconds to import what this needs, and a model of plain layers passes.
        import_module("tunesmith.modeling.adapter").try_adapter(base, examples, lora)


def _find_schedule_checks(train: TrainConfig, num_examples: int, start: Ref | None) -> list[Callable[[], None]]:
    # Where a champion has seen the other rows, there may be but a few new ones: a smaller step is one, too.
    has_champion = start is not None and start.facts["start"] is not None
    num_chosen = start.facts.get("num_examples") if start is not None and has_champion else num_examples
    checks: list[Callable[[], None]] = [partial(check_batch_size, train, num_examples)]
    return checks if num_chosen is None else [*checks, partial(check_validations, train, num_chosen)]


def _check_class_weights(train: TrainConfig, labels: Sequence[str]) -> None:
    asked = train.class_weights if isinstance(train.class_weights, dict) else {}
    for name in asked:
        if name not in labels:
            hint = find_nearest(name, labels)
            raise UserError(
                f"train.class_weights: {name!r} is no label; there are {', '.join(labels)}.{hint} Correct the name."
            )


def _copy(made: Ref, aside: Path) -> Facts:
    shutil.copytree(made.folder, aside, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
    return made.facts


def _open_mirror(store: FolderStore, derivation: Derivation, work: Path) -> CheckpointMirror | None:
    folders = store.open_mirror(derivation.kind, derivation.key)
    return None if folders is None else CheckpointMirror(folders, Checkpoints(work), held=work / "mirrored")


def _describe_stream(stream: StreamInput | None, train: TrainConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a stream adds to the ingredients: sections, and code. What its rows are, the features' key tells already."""
    if stream is None or stream.data.streaming is None:
        return {}, ()
    asked = {"shuffle_buffer": stream.data.streaming.shuffle_buffer, "validation_steps": train.validation_steps}
    return {"stream": asked}, ("tunesmith.training.streaming",)


def _describe_start(start: Ref | None, model: ModelConfig) -> tuple[dict[str, str], dict[str, Any]]:
    """What a champion to begin from adds to the ingredients: its weights, and how much of what it has seen is replayed.

    Nothing for the base model: whether the recipe asks for it, or has no champion yet, the candidate is the same.
    """
    if start is None or start.facts["start"] is None:
        return {}, {}
    return {"champion": start.facts["start"]["digest"]}, {"replay_fraction": model.replay_fraction}


def _describe_job(
    work: Path,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    train: TrainConfig,
    base: Path,
    stream: StreamInput | None,
) -> Job:
    return Job(
        work=work,
        features=features.folder.absolute(),
        base=base.absolute(),
        examples=examples,
        labels=tuple(features.facts["labels"]),
        pad_token_id=features.facts["pad_token_id"],
        lora=model.lora,
        quantization=model.quantization,
        train=train,
        checkpoint=None,
        parent_pid=os.getpid(),
        stream=_describe_stream_job(stream, features),
    )


def _describe_stream_job(stream: StreamInput | None, features: Ref) -> StreamJob | None:
    if stream is None or stream.data.streaming is None:
        return None
    return StreamJob(
        snapshot=stream.snapshot.folder.absolute(),
        files=tuple(stream.fetched.facts["files"]),
        data=stream.data.model_dump(mode="json", exclude_defaults=True),
        split=stream.split.model_dump(mode="json", exclude_defaults=True),
        limit={name: features.facts[name] for name in ("max_length", "on_overflow", "stride")},
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
