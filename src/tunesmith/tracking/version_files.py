"""The files of a registered version: from the store where it has them, else from MLflow; never without a look at them.

A version says what its files must be. What is damaged in one place is taken from the other.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.row_sets import RowNumbers, read_rows
from tunesmith.errors import ModelError
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import file_sha256, folder_digest
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.glance import local_folder
from tunesmith.tracking.lineage import MODEL, ROWS_FILE, Lineage
from tunesmith.tracking.registry import RegisteredVersion, find_named

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

WEIGHTS = "*.safetensors"


def resolve_model(uri: str, tracking: TrackingConfig, download_folder: Path) -> Path:
    """The local folder with the files of a registered model.

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.
        tracking: Where MLflow is.
        download_folder: Where a model that lies on a server is kept; one that is there is not fetched again.

    Raises:
        ModelError: There is no such model, alias or version; the message lists those that exist.
        TunesmithError: MLflow cannot be reached.
    """
    found = find_named(uri, tracking)
    folder = local_folder(found.source)
    if folder is None:
        folder = download_folder / found.model_name / found.mlflow_run_id
        _download_whole(found, tracking, folder)
    if not folder.is_dir():
        raise ModelError(
            f"{uri}: its files are gone from {folder}. Its recipe, run with the data and code of then, puts them back."
        )
    return folder


def read_seen_rows(
    version: RegisteredVersion, lineage: Lineage, store: FolderStore, tracking: TrackingConfig
) -> RowNumbers:
    """The set of rows that a version was trained on, those of the versions before it included.

    Raises:
        ModelError: The file is gone or damaged, in the store and in MLflow.
        TunesmithError: MLflow cannot be reached.
    """
    wanted = lineage.training.seen
    assert wanted is not None

    def write(path: Path) -> None:
        with store.aside() as aside:
            shutil.copyfile(_fetch(version, _places_of_rows(version, store), ROWS_FILE, wanted, tracking, aside), path)

    return read_rows(store.chunks.ensure("seen_rows", wanted, ".u64", write).path)


def fetch_model(
    version: RegisteredVersion, lineage: Lineage, part: str, store: FolderStore, tracking: TrackingConfig, target: Path
) -> None:
    """Put a version's folder `model` or `adapter` at `target`; its weights share the disk with other copies of them.

    Raises:
        ModelError: A file is gone or damaged, in the store and in MLflow.
        TunesmithError: MLflow cannot be reached.
    """
    exported = store.find_folder("export", lineage.export)
    places = [] if exported is None else [exported / part]
    with store.aside() as aside:
        fetched = _fetch(version, places, part, lineage.files[part], tracking, aside)
        shutil.copytree(fetched, target, ignore=shutil.ignore_patterns(WEIGHTS))
        for path in sorted(fetched.rglob(WEIGHTS)):
            chunk = store.chunks.ensure("weights", file_sha256(path), path.suffix, _copy_of(path))
            store.chunks.link(chunk.path, target / path.relative_to(fetched))


def _copy_of(path: Path) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        shutil.copyfile(path, target)

    return write


def _places_of_rows(version: RegisteredVersion, store: FolderStore) -> list[Path]:
    trained = store.find_folder("train", str(version.candidate_key))
    return [] if trained is None else [trained / ROWS_FILE]


def _fetch(
    version: RegisteredVersion, places: list[Path], name: str, wanted: str, tracking: TrackingConfig, aside: Path
) -> Path:
    """A file or folder of a version, of which every byte is as it was registered."""
    problem = "it is gone"
    for found in _find_copies(version, places, name, tracking, aside):
        if not found.exists():
            continue
        if (folder_digest(found) if found.is_dir() else file_sha256(found)) == wanted:
            return found
        problem = "it is not what was registered"
        log.warning("%s: %s is damaged in %s", version.uri, name, found)
    raise ModelError(
        f"{version.uri}: its {name} cannot be used, {problem}, in the store and in MLflow (run "
        f"{version.mlflow_run_id}). Restore it, or make another version the champion (`tunesmith rollback`, `tunesmith "
        "promote`); a training that would go on from it can begin from the base model: set model.start: base."
    )


def _find_copies(
    version: RegisteredVersion, places: list[Path], name: str, tracking: TrackingConfig, aside: Path
) -> Iterator[Path]:
    yield from places
    log.info("Fetching %s of %s from MLflow.", name, version.uri)
    with mlflow_client(tracking) as client:
        yield _download(client, version, name, aside)


def _download(client: MlflowClient, version: RegisteredVersion, name: str, aside: Path) -> Path:
    known = {entry.path for entry in client.list_artifacts(version.mlflow_run_id)}
    if name not in known:
        return aside / name  # where nothing is
    return Path(client.download_artifacts(version.mlflow_run_id, name, str(aside)))


def _download_whole(found: RegisteredVersion, tracking: TrackingConfig, folder: Path) -> None:
    if folder.is_dir():
        return
    log.info("Fetching %s from MLflow.", found.uri)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    aside.mkdir(parents=True)
    try:
        with mlflow_client(tracking) as client:
            fetched = client.download_artifacts(found.mlflow_run_id, MODEL, str(aside))
        Path(fetched).replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
