"""What a training begins from: found out before anything is fetched, and then brought into the store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.partition import ROW_ID
from tunesmith.data.row_sets import RowNumbers, digest_rows, dump_rows, number_rows, unite
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluation.served import find_served_model
from tunesmith.features.files import read_split
from tunesmith.kinds import Examples, find_kind
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.lineage import ROWS_FILE, Lineage, StartPoint
from tunesmith.tracking.registry import RegisteredVersion
from tunesmith.tracking.version_files import fetch_model, read_seen_rows
from tunesmith.training.fit import find_part
from tunesmith.training.replay import RowChoice, choose_examples

log = logging.getLogger(__name__)

CHOSEN_FILE = "examples.npy"
"""The numbers of the examples that are trained on, where those are not all."""


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split dataset, as far as a start is about them.

    Attributes:
        train: The rows that train.
        validation: The rows by which the best of its models is chosen.
        test: The rows that judge.
    """

    train: ChunkedRows
    validation: ChunkedRows
    test: ChunkedRows

    @classmethod
    def open(cls, snapshot: Ref, splits: Ref) -> SplitRows | None:
        """The rows of a split artifact; None where they are but a sample, of a stream."""
        if snapshot.facts.get("streaming") is not None:
            return None
        return cls(*(ChunkedRows.open(splits.folder, name) for name in ("train", "validation", "test")))

    @cached_property
    def names(self) -> pa.ChunkedArray:
        """The names of the rows that train."""
        return read_names(self.train)

    @cached_property
    def own(self) -> RowNumbers:
        """The set of rows that train."""
        return unite(number_rows(self.names))

    @cached_property
    def digest(self) -> str:
        """Names that set."""
        return digest_rows(self.own)


@dataclass(frozen=True)
class Registry:
    """Where the champion is.

    Attributes:
        registry: Which registered model.
        tracking: Where MLflow is.
    """

    registry: RegistryConfig
    tracking: TrackingConfig


@dataclass(frozen=True)
class Beginning:
    """What a training begins from, known before anything is fetched.

    Attributes:
        rows: The rows of the splits; None of a stream.
        splits: The split artifact.
        features: The encode artifact; in a plan it need not exist yet.
        examples: The kind of task.
        model: What the recipe says of the model.
        registry: Where the champion is.
        store: Where files of it may lie.
        version: The registered version to begin from; None for the base model.
        why: Why not from what the recipe asks for, as a sentence; empty where it is that.
    """

    rows: SplitRows | None
    splits: Ref
    features: Ref
    examples: Examples
    model: ModelConfig
    registry: Registry
    store: FolderStore
    version: RegisteredVersion | None
    why: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known without the features."""
        facts: dict[str, Any] = {"asked": self.model.start, "start": None, "part": None}
        if self.rows is None:
            return {**facts, "rows": None, "seen": None}
        if self.version is not None:
            point = self._point(self.version)
            facts |= {"start": point.model_dump(), "part": find_part(self.model, read_lineage(self.version))}
        seen = digest_rows(unite(self.seen, self.rows.own))
        return {**facts, "rows": self.rows.digest, "seen": seen, **self.choice.counts}

    @cached_property
    def choice(self) -> RowChoice:
        """Which rows are trained on."""
        assert self.rows is not None
        return RowChoice.make(self.rows.names, self.seen, self.model.replay_fraction)

    @cached_property
    def seen(self) -> RowNumbers:
        """The rows that the model to begin from was trained on."""
        if self.version is None:
            return np.empty(0, dtype=np.uint64)
        return read_seen_rows(self.version, read_lineage(self.version), self.store, self.registry.tracking)

    def choose_examples(self) -> np.ndarray[Any, Any] | None:
        """The numbers of the examples that are trained on; None where it is all of them."""
        if self.version is None or self.choice.is_chosen.all():
            return None
        names = read_split(self.features.folder, "train")[ROW_ID]
        return choose_examples(names, self.choice, joins_rows=find_kind(self.examples).JOINS_ROWS)

    def derive(self) -> Derivation:
        """Describe the start stage."""
        inputs = {"splits": self.splits.key}
        if self.version is not None:
            inputs |= {"features": self.features.key, "champion": self._point(self.version).digest}
        return Derivation(
            kind="start",
            ingredients=compose_ingredients(
                config={"model": {"start": self.model.start, "replay_fraction": self.model.replay_fraction}},
                inputs=inputs,
                code=("tunesmith.training.replay",),
                libraries=("numpy", "pyarrow"),
            ),
            build=self._build,
        )

    def _point(self, version: RegisteredVersion) -> StartPoint:
        lineage = read_lineage(version)
        part = find_part(self.model, lineage)
        files = lineage.files[part if part in lineage.files else lineage.part]
        digest = compute_key({"part": part, "files": files, "seen": lineage.training.seen})
        return StartPoint(candidate=str(version.candidate_key), version=version.version, digest=digest)

    def _build(self, folder: Path) -> Facts:
        if self.why:
            log.info("start: %s", self.why)
        if self.rows is None:
            return self.facts
        (folder / ROWS_FILE).write_bytes(dump_rows(unite(self.seen, self.rows.own)))
        if self.version is None:
            return self.facts
        log.info("start: %s", describe_start(self.facts))
        self._fetch(self.version, self.facts["part"], folder)
        return {**self.facts, "num_examples": self._write_chosen(folder)}

    def _fetch(self, version: RegisteredVersion, part: str, folder: Path) -> None:
        """Write a part of a version into a folder; the whole of one that is registered as an adapter is made first."""
        lineage = read_lineage(version)
        if part in lineage.files:
            fetch_model(version, lineage, part, self.store, self.registry.tracking, folder / part)
            return
        with self.store.aside() as aside:
            fetch_model(version, lineage, lineage.part, self.store, self.registry.tracking, aside / lineage.part)
            place, served = find_served_model(aside / lineage.part)
            served.save_whole(place, folder / part)

    def _write_chosen(self, folder: Path) -> int:
        chosen = self.choose_examples()
        if chosen is None:
            return int(self.features.facts["num_examples"]["train"])
        if not len(chosen):
            raise DataError(
                f"model.start: nothing is left to train on: {describe_start(self.facts)}. Raise model.replay_fraction "
                f"({self.model.replay_fraction:g}), add rows, or set model.start: base."
            )
        np.save(folder / CHOSEN_FILE, chosen, allow_pickle=False)
        return len(chosen)


def read_lineage(version: RegisteredVersion) -> Lineage:
    """What a version says of its training.

    Raises:
        ModelError: It does not say which rows it was trained on.
    """
    if version.lineage is not None and version.lineage.training.seen is not None:
        return version.lineage
    how = "was registered without a word on its training" if version.lineage is None else "was trained on a stream"
    raise ModelError(
        f"model.start: {version.uri} {how}, so nobody knows which rows are new to it. Set model.start: base for one "
        "run; once its candidate is the champion, later runs go on from that."
    )


def describe_start(facts: Facts) -> str:
    """What a training begins from, and which rows it is about, in words."""
    start = facts["start"]
    if start is None:
        return "the base model"
    return (
        f"version {start['version']}, {facts['num_new_rows']:,} new rows, "
        f"{facts['num_replayed_rows']:,} of {facts['num_old_rows']:,} old rows replayed"
    )


def read_names(rows: ChunkedRows) -> pa.ChunkedArray:
    """The names of rows."""
    return rows.read([ROW_ID])[ROW_ID]
