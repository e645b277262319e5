"""The artifacts of one candidate, as train, evaluate and export leave them, small and without any training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from made_predictions import EXAMPLES, LABELS, make_predictions, make_splits, write_report
from tunesmith.evaluation.decide import decide
from tunesmith.evaluation.evaluate import EvaluateConfig
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.predictions import JudgedRows
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import folder_digest
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.lineage import Training
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.register import register

DIGEST = "0123456789abcdef" * 4
ROWS = [
    *(
        {"step": step, "epoch": step / 30, "metrics": {"train/loss": 1 / step, "train/learning_rate": 1e-4}}
        for step in range(1, 31)
    ),
    {"step": 30, "epoch": 1.0, "metrics": {"validation/loss": 0.5}},
]


@dataclass
class TrackedCandidate:
    """A candidate up to its registration."""

    store: FolderStore
    tracking: TrackingConfig
    candidate: Ref
    report: Ref
    exported: Ref
    snapshot: Ref
    splits: Ref
    record: RecipeRecord
    gate: GateConfig = field(default_factory=GateConfig)
    registry: RegistryConfig = field(default_factory=lambda: RegistryConfig(model_name="sentiment"))

    @classmethod
    def make(
        cls, root: Path, tracking: TrackingConfig, name: str, accuracy: float, *, key: str | None = None, **recipe
    ) -> TrackedCandidate:
        store, key = FolderStore(root), key or hashlib.sha256(name.encode()).hexdigest()[:32]
        training = Training(
            kind=EXAMPLES.kind, base="base", labels=LABELS, lora=None, rows=None, seen=None, start=None
        ).model_dump(mode="json")
        candidate = _artifact(
            root, "train", key, num_steps=30, num_parameters=100, training_seconds=1.5, training=training
        )
        (candidate.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        report = _artifact(
            root, "evaluate", key, candidate=key, metrics={"accuracy": accuracy, "f1_macro": accuracy / 2},
            primary_metric="accuracy", greater_is_better=True, num_examples=100, labels=[*LABELS],
            baseline={"name": "majority class", "metrics": {"accuracy": 0.5, "f1_macro": 0.3}},
        )  # fmt: skip
        write_report(report.folder, accuracy, 0.5)
        splits = make_splits(root / "made" / "splits", store)
        rows = JudgedRows(splits, "test", EXAMPLES, EvaluateConfig().batch_size)
        rows.predict(key, LABELS, lambda: make_predictions(accuracy), store)
        exported = _artifact(root, "export", key)
        (exported.folder / "model" / "deep").mkdir(parents=True, exist_ok=True)
        (exported.folder / "model" / "config.json").write_text(json.dumps({"name": name}))
        (exported.folder / "model" / "deep" / "model.safetensors").write_bytes(b"weights" * 1000)
        exported.facts["files"] = {"model": folder_digest(exported.folder / "model")}
        columns = {"text": "string", "label": "int64"}
        snapshot = _artifact(root, "snapshot", "0" * 32, digest=DIGEST, num_rows=1000, columns=columns)
        settings = {"name": "sentiment", "train": {"num_epochs": 1}, "data": {"files": ["a.csv"]}, **recipe}
        record = RecipeRecord(name="sentiment", recipe=settings, recipe_text=f"name: {name}\n", git_commit="c0ffee")
        return cls(store, tracking, candidate, report, exported, snapshot, splits, record)

    @classmethod
    def read(cls, job: Path) -> TrackedCandidate:
        """The candidate that another process described as JSON."""
        described = json.loads(job.read_bytes())
        refs = {name: Ref.model_validate(ref) for name, ref in described["refs"].items()}
        return cls(
            store=FolderStore(Path(described["root"])),
            tracking=TrackingConfig.model_validate(described["tracking"]),
            record=RecipeRecord.model_validate(described["record"]),
            **refs,
        )

    def decide(self) -> Ref:
        judging = (self.report, self.splits, self.exported, EXAMPLES, EvaluateConfig(), self.gate)
        return decide(*judging, self.registry, self.tracking, self.store)

    def register(self, flow_run_id: str | None = None, *, decision: Ref | None = None) -> Ref:
        return register(
            self.candidate, self.report, decision or self.decide(), self.exported, self.snapshot,
            self.splits, self.record, self.registry, self.tracking, self.store, flow_run_id=flow_run_id,
        )  # fmt: skip


def _artifact(root: Path, kind: str, key: str, **facts) -> Ref:
    folder = root / "made" / kind / key
    folder.mkdir(parents=True, exist_ok=True)
    return Ref(kind=kind, key=key, uri=str(folder), facts=facts)
