"""What the run of a candidate holds besides its rows: the dataset, the files and the model."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.report.profile_page import TABLES
from tunesmith.report.report_files import CARD_FILE, ERRORS_FOLDER, REPORT_FILE
from tunesmith.store.ref import Ref
from tunesmith.store.sealed import MANIFEST
from tunesmith.tracking.client import settle
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.lineage import ROWS_FILE, START_TAG, Training, describe_start
from tunesmith.tracking.record import RecipeRecord

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPORT_TAG = "tunesmith.export"
"""The key of the export whose files the run holds; set when the last of them is there."""

TABLES_TAG = "mlflow.loggedArtifacts"
"""MLflow's tag on which artifacts are tables; its own `log_table` adds rows to a table that is there, at each call."""

MAX_DIGEST_LENGTH = 36
"""MLflow's limit on the characters of a dataset's digest."""

MODEL_FOLDERS = ("model", "adapter", "onnx", "onnx-int8")
"""What of an export becomes artifacts of the run, under the same names."""

COLUMN_TYPES = {"int64": "long", "float64": "double", "bool": "boolean", "string": "string"}
"""MLflow's names for the types of our columns."""


def log_dataset(client: MlflowClient, run: Run, name: str, snapshot: Ref) -> None:
    """Name the dataset behind the run, by the sha256 of all of its rows.

    MLflow's own digest covers 10,000 rows, and its field takes 36 characters: the whole sha256 is in the dataset's
    source and profile, and the run has it as a tag.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag

    digest = str(snapshot.facts["digest"])
    columns = [
        {"name": column, "type": COLUMN_TYPES.get(str(kind), "string"), "required": False}
        for column, kind in snapshot.facts["columns"].items()
    ]
    dataset = Dataset(
        name=name,
        digest=digest[:MAX_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": snapshot.uri, "sha256": digest}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": snapshot.facts["num_rows"], "sha256": digest}),
    )
    inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    settle(lambda: client.log_inputs(run.info.run_id, datasets=inputs))
    settle(lambda: client.log_batch(run.info.run_id, tags=[RunTag("tunesmith.data_digest", digest)]))


def log_files(
    client: MlflowClient, run: Run, record: RecipeRecord, loss_curve: bytes, report: Ref, exported: Ref
) -> None:
    """Upload the small files: the recipe, the environment, the loss curve, the metrics, the parity."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        files = Path(folder)
        (files / "recipe.yaml").write_text(record.recipe_text, encoding="utf-8")
        (files / "recipe.json").write_text(json.dumps(record.recipe, indent=1, ensure_ascii=False), encoding="utf-8")
        (files / "environment.json").write_text(json.dumps(describe_environment(), indent=1), encoding="utf-8")
        (files / "loss.png").write_bytes(loss_curve)
        for ref, name in ((report, "metrics.json"), (exported, "parity.json")):
            if (ref.folder / name).is_file():
                shutil.copyfile(ref.folder / name, files / name)
        client.log_artifacts(run.info.run_id, folder)


def log_decision(client: MlflowClient, run: Run, decision: Ref) -> None:
    """Upload a decision as `decision/`, with the predictions that it rests on: all that it takes to decide again."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        target = Path(folder) / "decision"
        shutil.copytree(decision.folder, target, ignore=shutil.ignore_patterns(MANIFEST))
        client.log_artifacts(run.info.run_id, str(target), target.name)


def log_profile(client: MlflowClient, run: Run, folder: Path) -> None:
    """Upload the profile of the rows as `profile/`: its document, tables that MLflow shows as such, and pictures."""
    if not folder.is_dir():
        return
    client.log_artifacts(run.info.run_id, str(folder), folder.name)
    tables = [{"path": f"{folder.name}/{name}", "type": "table"} for name in TABLES]
    if run.data.tags.get(TABLES_TAG) != json.dumps(tables):
        settle(lambda: client.set_tag(run.info.run_id, TABLES_TAG, json.dumps(tables)))


def log_report(client: MlflowClient, run: Run, folder: Path) -> None:
    """Upload the report, the model card and the error tables."""
    for name in (REPORT_FILE, CARD_FILE):
        client.log_artifact(run.info.run_id, str(folder / name))
    client.log_artifacts(run.info.run_id, str(folder / ERRORS_FOLDER), ERRORS_FOLDER)


def find_report_uri(tracking: TrackingConfig, run: Run) -> str:
    """Where a browser finds a run's report: on MLflow's page where there is a server, else among the run's files."""
    if tracking.uri.startswith(("http://", "https://")):
        page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{REPORT_FILE}"
        return f"{tracking.public_uri().rstrip('/')}/{page}"
    folder = str(run.info.artifact_uri)
    return f"{Path(folder).as_uri() if folder.startswith('/') else folder}/{REPORT_FILE}"


def ensure_model_files(client: MlflowClient, run: Run, exported: Ref) -> None:
    """Upload each folder of the export under its own name, such as `model/`; not again when they are there."""
    wanted = find_model_files(exported)
    is_marked = run.data.tags.get(EXPORT_TAG) == exported.key
    if is_marked and wanted.items() <= _list_files(client, run, list(MODEL_FOLDERS)).items():
        return
    for folder in _model_folders(exported):
        client.log_artifacts(run.info.run_id, str(folder), folder.name)
    settle(lambda: client.set_tag(run.info.run_id, EXPORT_TAG, exported.key))


def find_model_files(exported: Ref) -> dict[str, int]:
    """The size in bytes of each file of the exported formats, by its path in the export artifact."""
    return {
        path.relative_to(exported.folder).as_posix(): path.stat().st_size
        for folder in _model_folders(exported)
        for path in folder.rglob("*")
        if path.is_file()
    }


def log_training(client: MlflowClient, run: Run, candidate: Ref) -> None:
    """Upload the set of rows that the candidate has seen, and say what its training began from."""
    rows = candidate.folder / ROWS_FILE
    if rows.is_file():
        client.log_artifact(run.info.run_id, str(rows))
    if "training" in candidate.facts:
        start = describe_start(Training.model_validate(candidate.facts["training"]))
        settle(lambda: client.set_tag(run.info.run_id, START_TAG, start))


def describe_environment() -> dict[str, Any]:
    """The machine and the installed distributions, as JSON values."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "num_cpus": os.cpu_count(),
        "packages": dict(_installed_packages()),
    }


def _model_folders(exported: Ref) -> list[Path]:
    return [folder for name in MODEL_FOLDERS if (folder := exported.folder / name).is_dir()]


@cache
def _installed_packages() -> tuple[tuple[str, str], ...]:
    found = {metadata["Name"]: metadata["Version"] for metadata in (item.metadata for item in distributions())}
    return tuple(sorted(found.items(), key=lambda item: item[0].lower()))


def _list_files(client: MlflowClient, run: Run, folders: list[str]) -> Mapping[str, int]:
    files: dict[str, int] = {}
    pending = list(folders)
    while pending:
        for entry in client.list_artifacts(run.info.run_id, pending.pop()):
            if entry.is_dir:
                pending.append(entry.path)
            else:
                files[entry.path] = int(entry.file_size or 0)
    return files
