"""Champions in a real registry, and trainings that go on from them: real weights, without the time to train them."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from split_rows import write_splits
from tracked_candidate import TrackedCandidate
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.kinds import Examples
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import folder_digest
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import seal
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.training.config import TrainConfig
from tunesmith.training.continuing import begin_at, record_training
from tunesmith.training.job import Job
from tunesmith.training.start import derive_start, find_start
from tunesmith.training.train import derive_train

CLASSIFICATION = TextClassification(kind="text-classification", text="review", label="verdict")
WORDS = ("good", "bad", "film", "story", "the", "very", "and", "not")
SNAPSHOT = Ref(kind="snapshot", key="snapshot", uri="")
TEST_ROWS = range(9000, 9012)
TRAIN = {"per_device_train_batch_size": 4, "num_epochs": 2, "logging_steps": 1, "save_steps": 3, "precision": "fp32"}


def make_rows(numbers: Iterable[int]) -> pa.Table:
    """Rows that are known by their number: a third of them is bad."""
    texts = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 3 + row % 7)) for row in numbers]
    labels = ["bad" if row % 3 == 0 else "good" for row in numbers]
    return pa.table({"row_id": [f"{row:016x}" for row in numbers], "review": texts, "verdict": labels})


@dataclass(frozen=True)
class Data:
    """Rows, split and encoded."""

    splits: Ref
    features: Ref


class Retraining:
    """One registered model, which is trained again and again."""

    def __init__(self, folder: Path, base: Path, tracking: TrackingConfig, examples: Examples = CLASSIFICATION):
        self.folder, self.base, self.tracking, self.examples = folder, base, tracking, examples
        self.store = FolderStore(folder / "store")
        self.registry = RegistryConfig(model_name="sentiment")
        self.num_promoted = 0

    def model(self, **changes) -> ModelConfig:
        return ModelConfig(**{"base": str(self.base), "start": "champion", **changes})

    def data(
        self,
        train: Iterable[int],
        test: Iterable[int] = TEST_ROWS,
        validation: Iterable[int] = range(8000, 8006),
        rows=make_rows,
    ) -> Data:
        numbers = {"train": [*train], "validation": [*validation], "test": [*test]}
        key = f"splits-{hash(tuple(map(tuple, numbers.values())))}-{rows.__name__}"
        splits = Ref(kind="split", key=key, uri=str(self.folder / key))
        write_splits(splits, {split: rows(found) for split, found in numbers.items()}, self.store.chunks)
        features = encode(splits, self.examples, self.model(), TokenizeConfig(max_length=16), self.store)
        return Data(splits, features)

    def derive(self, data: Data, model: ModelConfig):
        places = (self.registry, self.tracking, self.store)
        return derive_start(SNAPSHOT, data.splits, data.features, self.examples, model, *places)

    def start(self, data: Data, model: ModelConfig | None = None) -> Ref:
        places = (self.registry, self.tracking, self.store)
        return find_start(SNAPSHOT, data.splits, data.features, self.examples, model or self.model(), *places)

    def train_key(self, data: Data, model: ModelConfig | None = None, **train) -> str:
        """The key of the candidate that a run would train."""
        model = model or self.model()
        start = self.start(data, model)
        config = TrainConfig(**{**TRAIN, **train})
        return derive_train(data.features, self.examples, model, config, self.store, start=start).key

    def job(self, work: Path, data: Data, model: ModelConfig | None = None, **train) -> Job:
        """What the training process would be asked to do."""
        model = model or self.model()
        work.mkdir(parents=True, exist_ok=True)
        job = Job(
            work=work,
            features=data.features.folder,
            base=self.base,
            examples=self.examples,
            labels=tuple(data.features.facts["labels"]),
            pad_token_id=data.features.facts["pad_token_id"],
            lora=model.lora,
            train=TrainConfig(**{**TRAIN, **train}),
            checkpoint=None,
            parent_pid=os.getpid(),
        )
        return begin_at(job, self.start(data, model))

    def promote(self, data: Data, model: ModelConfig | None = None) -> TrackedCandidate:
        """Make the candidate of some data the champion, its weights moved at random instead of trained."""
        model = model or self.model()
        self.num_promoted += 1
        key = self.train_key(data, model)
        work = self.folder / "made" / key
        start, job = self.start(data, model), self.job(work, data, model)
        folder = self.store.root / "artifacts" / "train" / key
        files = self.folder / "exported" / key
        _write_weights(job, folder, files, seed=self.num_promoted)
        facts = record_training(job, start, find_base(model).digest, folder)
        candidate = Ref(kind="train", key=key, uri=str(folder), facts=facts)
        digests = {path.name: folder_digest(path) for path in files.iterdir()}
        exported = self.store.ensure(_derive_export(key, files, digests))
        made = TrackedCandidate.make(self.store.root, self.tracking, key, 0.5 + self.num_promoted / 16, key=key)
        (folder / "metrics.jsonl").write_bytes((made.candidate.folder / "metrics.jsonl").read_bytes())
        report = made.report.model_copy(update={"facts": {**made.report.facts, "candidate": key}})
        seal(folder, {"facts": facts})
        candidate = candidate.model_copy(update={"facts": {**made.candidate.facts, **facts}})
        whole = dataclasses.replace(made, candidate=candidate, report=report, exported=exported)
        assert whole.register().facts["aliases"] == ["champion"]
        return whole

    def roll_back(self, version: int) -> None:
        with mlflow_client(self.tracking) as client:
            client.set_registered_model_alias("sentiment", "champion", str(version))

    def forget(self, *kinds: str) -> None:
        """Clean the store: artifacts and chunks of some kinds."""
        for kind in kinds:
            for place in ("artifacts", "chunks"):
                shutil.rmtree(self.store.root / place / kind, ignore_errors=True)

    def artifacts(self, version: int) -> Path:
        """Where MLflow keeps the files of a version's run."""
        with mlflow_client(self.tracking) as client:
            source = client.get_model_version("sentiment", str(version)).source
        return Path(source.removeprefix("file://")).parent


LORA = LoraConfig(r=2, lora_dropout=0.1)


def _write_weights(job: Job, folder: Path, exported: Path, seed: int) -> None:
    """Write what the train and the export stage would leave."""
    import torch

    from tunesmith.modeling.load import build_model, merge

    model = build_model(job.base, job.examples, job.labels, job.lora, 0, adapter=job.adapter)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    if job.lora is not None and not job.merges:
        for target in (folder, exported):
            model.save_pretrained(target / "adapter")
    merge(model).save_pretrained(exported / "model")
    shutil.copytree(job.features / "tokenizer", exported / "model", dirs_exist_ok=True)
    if job.lora is None or job.merges:
        shutil.copytree(exported / "model", folder / "model")
    (exported / "model" / "tunesmith.json").write_text("{}")


def _derive_export(candidate: str, files: Path, digests: dict[str, str]) -> Derivation:
    def build(folder: Path) -> dict:
        shutil.copytree(files, folder, dirs_exist_ok=True)
        return {"files": digests}

    ingredients = compose_ingredients(config={}, inputs={"candidate": candidate}, code=())
    return Derivation(kind="export", ingredients=ingredients, build=build)
