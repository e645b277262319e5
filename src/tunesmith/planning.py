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
from tunesmith.evaluation.slicing import derive_slices
from tunesmith.export.export import check_start, derive_export
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
from tunesmith.training.beginning import Beginning, Registry, SplitRows, describe_start
from tunesmith.training.config import STATE_BYTES, TrainConfig
from tunesmith.training.schedule import Schedule
from tunesmith.training.start import find_beginning
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


class PlannedStart(BaseModel):
    """What training would begin from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    version: int | None
    """The registered version; None for the base model."""
    num_new_rows: int | None
    """Rows of the train split that it was never trained on; None where nobody counted them, as of a stream."""
    num_old_rows: int | None
    """Rows of the train split that it was trained on."""
    num_replayed_rows: int | None
    """How many of these it is trained on again."""
    why: str
    """Why not what the recipe asks for; empty where it is that."""
    text: str
    """All of it in words."""


class Plan(BaseModel):
    """What a run would do."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    stages: tuple[PlannedStage, ...]
    start: PlannedStart
    num_rows_in: int
    dropped: dict[str, int]
    num_rows: dict[str, int]
    """Rows of each split."""
    num_steps: int | None
    """Optimizer steps; None where only encoding will tell how many examples there are."""
    stream: str | None = None
    """How much a stream holds, and how often the steps go through it."""
    training_bytes: int
    """Weights, gradients and optimizer state of one process, with all embeddings; activations come on top."""
    approval_hours: float | None
    """How long a promotion waits for a person's approval; None where it needs none."""


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

    def add_start(self, beginning: Beginning) -> Ref:
        """What training begins from is known, also where it is not yet fetched."""
        ref = self.add(beginning.derive())
        return ref if ref.facts else ref.model_copy(update={"facts": beginning.facts})

    def add_behind(self, kind: str, derivation: Callable[[], Derivation], before: Ref) -> Ref:
        """A stage that depends on what is in the artifact before it, known once that is made."""
        if before.facts:
            return self.add(derivation())
        self._append(kind, None, f"follows {before.kind}")
        return Ref(kind=kind, key="", uri="")

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
    slices = planner.add(derive_slices(splits, recipe.evaluate))
    features = planner.add(derive_encode(splits, recipe.examples, recipe.model, recipe.tokenize, store))
    stream = StreamInput(snapshot, fetched, recipe.data, recipe.split)
    beginning = _find_beginning(snapshot, rows, splits, features, recipe, store)
    start = planner.add_start(beginning)
    check_start(start, recipe.export)
    candidate = planner.add(
        derive_train(features, recipe.examples, recipe.model, recipe.train, store, stream=stream, start=start)
    )
    report = planner.add(
        derive_evaluate(candidate, splits, slices, features, recipe.examples, recipe.model, recipe.evaluate, store)
    )
    exported = planner.add(derive_export(candidate, features, report, recipe.examples, recipe.model, recipe.export))
    decision = planner.add_behind(
        "decide",
        lambda: derive_decide(
            report,
            splits,
            exported,
            recipe.examples,
            recipe.evaluate,
            recipe.gate,
            recipe.registry,
            recipe.tracking,
            store,
        ),
        report,
    )
    planner.add_behind(
        "register",
        lambda: derive_register(
            candidate, report, decision, exported, snapshot, splits, record, recipe.registry, recipe.tracking
        ),
        decision,
    )
    return Plan(
        recipe=recipe.name,
        stages=tuple(planner.stages),
        num_rows_in=snapshot.facts["rows_in"],
        dropped=snapshot.facts["dropped"],
        start=_describe_start(beginning),
        num_rows=splits.facts.get("num_rows") or _count_rows(rows, recipe, store),
        num_steps=_count_steps(features, beginning, recipe.train),
        stream=_describe_stream(snapshot, recipe.train),
        training_bytes=estimate_training_bytes(
            find_base(recipe.model).folder,
            recipe.model.lora,
            STATE_BYTES[recipe.train.optimizer],
            recipe.model.quantization,
        )
        // (recipe.train.num_processes if recipe.train.fsdp else 1),
        approval_hours=recipe.gate.approval_seconds / 3600 if recipe.gate.approval == "manual" else None,
    )


def _describe_stream(snapshot: Ref, train: TrainConfig) -> str | None:
    streaming = snapshot.facts.get("streaming")
    if streaming is None:
        return None
    num_examples = (train.max_steps or 0) * train.gradient_accumulation_steps * train.common_batch_size
    num_epochs = num_examples / streaming["num_lines"]
    return (
        f"{describe_size(streaming)}; a sample of {snapshot.facts['num_rows']:,}; "
        f"the steps read about {num_epochs:.3g} epochs"
    )


def _count_rows(rows: ChunkedRows, recipe: Recipe, store: FolderStore) -> dict[str, int]:
    divided = divide(rows, recipe.split, recipe.examples, recipe.data.weights, store.chunks)
    return {name: found.num_rows for name, found in divided.splits.items()}


def _find_beginning(
    snapshot: Ref, rows: ChunkedRows, splits: Ref, features: Ref, recipe: Recipe, store: FolderStore
) -> Beginning:
    """What training would begin from; splits that are not there are made for it, and not published."""
    split_rows = None
    if splits.facts:
        split_rows = SplitRows.open(snapshot, splits)
    elif recipe.model.start == "champion":
        divided = divide(rows, recipe.split, recipe.examples, recipe.data.weights, store.chunks).splits
        split_rows = SplitRows(divided["train"], divided["validation"], divided["test"])
    registry = Registry(recipe.registry, recipe.tracking)
    return find_beginning(split_rows, splits, features, recipe.examples, recipe.model, registry, store)


def _describe_start(beginning: Beginning) -> PlannedStart:
    facts, why = beginning.facts, beginning.why
    return PlannedStart(
        version=None if beginning.version is None else beginning.version.version,
        num_new_rows=facts.get("num_new_rows"),
        num_old_rows=facts.get("num_old_rows"),
        num_replayed_rows=facts.get("num_replayed_rows"),
        why=why,
        text=describe_start(facts) + (f": {why}" if why else ""),
    )


def _count_steps(features: Ref, beginning: Beginning, train: TrainConfig) -> int | None:
    if "num_examples" not in features.facts:
        return None
    chosen = beginning.choose_examples()
    num_examples = features.facts["num_examples"]["train"] if chosen is None else len(chosen)
    return Schedule(train, np.empty(num_examples)).num_steps
