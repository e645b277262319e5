"""What a run would do, found out without doing it: every stage with its key, cached or why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.fetch import fetch
from tunesmith.data.snapshot import derive_snapshot, take_snapshot
from tunesmith.data.split import derive_split, divide
from tunesmith.data.stream_snapshot import describe_size
from tunesmith.evaluation.decide import derive_decide
from tunesmith.evaluation.evaluate import derive_evaluate
from tunesmith.export.export import derive_export
from tunesmith.features.encode import derive_encode
from tunesmith.modeling.base import find_base
from tunesmith.modeling.memory import estimate_training_bytes
from tunesmith.recipe import Recipe
from tunesmith.store.config import open_store
from tunesmith.store.derivation import Derivation
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.register import derive_register
from tunesmith.training.config import STATE_BYTES, TrainConfig
from tunesmith.training.schedule import Schedule
from tunesmith.training.train import StreamInput, derive_train


class PlannedStage(BaseModel):
    """One stage of a plan."""

    model_config = ConfigDict(frozen=True)

    stage: str
    key: str | None
    """None where the key depends on what an earlier stage finds."""
    is_cached: bool
    reason: str
    """Why it would be computed; empty when it is cached."""


class Plan(BaseModel):
    """What a run would do."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    stages: tuple[PlannedStage, ...]
    num_rows_in: int
    dropped: dict[str, int]
    num_rows: dict[str, int]
    """Rows of each split."""
    num_steps: int | None
    """Optimizer steps; None where only encoding will tell how many examples there are."""
    stream: str | None = None
    """How much a stream holds, and how often the steps go through it."""
    training_bytes: int
    """Weights, gradients and optimizer state; activations come on top."""


class _Planner:
    """Walks the stages in order; a stage that is not there stands in by its key alone."""

    def __init__(self, store: FolderStore) -> None:
        self.store = store
        self.stages: list[PlannedStage] = []

    def add(self, derivation: Derivation) -> Ref:
        status = self.store.status(derivation)
        if status.ref is not None:
            self._append(derivation.kind, status.ref.key, "")
            return status.ref
        key = None if derivation.address is not None else derivation.key
        self._append(derivation.kind, key, status.reason)
        return Ref(kind=derivation.kind, key=key or "", uri="")

    def add_snapshot(self, fetched: Ref, recipe: Recipe) -> tuple[Ref, ChunkedRows]:
        """The snapshot's key is its content, so what is not cached is read, but not published."""
        derivation = derive_snapshot(fetched, recipe.data, recipe.examples, self.store)
        status = self.store.status(derivation)
        if status.ref is not None:
            self._append("snapshot", status.ref.key, "")
            return status.ref, ChunkedRows.open(status.ref.folder)
        taken = take_snapshot(fetched, recipe.data, recipe.examples, self.store)
        self._append("snapshot", taken.key, status.reason)
        return Ref(kind="snapshot", key=taken.key, uri="", facts=dict(taken.facts)), taken.rows

    def add_register(self, derivation: Callable[[], Derivation], decision: Ref) -> None:
        """Registration depends on the decision, whose key is known once it is made."""
        if decision.key:
            self.add(derivation())
        else:
            self._append("register", None, "follows decide")

    def _append(self, stage: str, key: str | None, reason: str) -> None:
        self.stages.append(PlannedStage(stage=stage, key=key, is_cached=not reason, reason=reason))


def plan(recipe: Recipe, record: RecipeRecord) -> Plan:
    """Say for every stage whether it is cached, and why not; train nothing and publish nothing.

    Rows that are read for it stay in the chunk cache, where a run finds them.

    Raises:
        UserError: Whatever a run would refuse in the recipe, the data or the base model.
    """
    store = open_store(recipe.store)
    planner = _Planner(store)
    fetched = fetch(recipe.data, store)
    snapshot, rows = planner.add_snapshot(fetched, recipe)
    weights = recipe.data.weights
    splits = planner.add(derive_split(snapshot, recipe.split, recipe.examples, weights, store))
    features = planner.add(derive_encode(splits, recipe.examples, recipe.model, recipe.tokenize, store))
    stream = StreamInput(snapshot, fetched, recipe.data, recipe.split)
    candidate = planner.add(derive_train(features, recipe.examples, recipe.model, recipe.train, store, stream=stream))
    report = planner.add(derive_evaluate(candidate, features, recipe.examples, recipe.model, recipe.evaluate))
    decision = planner.add(derive_decide(report, recipe.gate, recipe.registry, recipe.tracking))
    exported = planner.add(derive_export(candidate, features, recipe.examples, recipe.model, recipe.export))
    planner.add_register(
        lambda: derive_register(
            candidate, report, decision, exported, snapshot, record, recipe.registry, recipe.tracking
        ),
        decision,
    )
    return Plan(
        recipe=recipe.name,
        stages=tuple(planner.stages),
        num_rows_in=snapshot.facts["rows_in"],
        dropped=snapshot.facts["dropped"],
        num_rows=splits.facts.get("num_rows") or _count_rows(rows, recipe, store),
        num_steps=_count_steps(features, recipe.train),
        stream=_describe_stream(snapshot, recipe.train),
        training_bytes=estimate_training_bytes(
            find_base(recipe.model).folder, recipe.model.lora, STATE_BYTES[recipe.train.optimizer]
        ),
    )


def _describe_stream(snapshot: Ref, train: TrainConfig) -> str | None:
    streaming = snapshot.facts.get("streaming")
    if streaming is None:
        return None
    num_examples = (train.max_steps or 0) * train.gradient_accumulation_steps * train.per_device_train_batch_size
    num_epochs = num_examples / streaming["num_lines"]
    return (
        f"{describe_size(streaming)}; a sample of {snapshot.facts['num_rows']:,}; "
        f"the steps read about {num_epochs:.3g} epochs"
    )


def _count_rows(rows: ChunkedRows, recipe: Recipe, store: FolderStore) -> dict[str, int]:
    divided = divide(rows, recipe.split, recipe.examples, recipe.data.weights, store.chunks)
    return {name: found.num_rows for name, found in divided.splits.items()}


def _count_steps(features: Ref, train: TrainConfig) -> int | None:
    num_examples = features.facts.get("num_examples")
    return None if num_examples is None else Schedule(train, np.empty(num_examples["train"])).num_steps
