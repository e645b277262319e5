"""The registry: a version per candidate, and the alias of the one in use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import ModelError
from tunesmith.home import TRACKING_VARIABLE
from tunesmith.tracking.approval import Approval, read_approval
from tunesmith.tracking.candidate_run import CANDIDATE_TAG
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.glance import local_folder
from tunesmith.tracking.lineage import LINEAGE_TAG, Lineage
from tunesmith.tracking.long_tags import join_tag

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
"""The alias of the version in use."""

DECISION_TAG = "tunesmith.decision"
METRICS_TAG = "tunesmith.metrics"
PROMOTED_TAG = "tunesmith.promoted_by"
"""The key of the decision that moved the alias: one decision moves it once, and a rollback stays."""
MODEL_URI = re.compile(r"^models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))$")

Page = TypeVar("Page")


class RegisteredVersion(BaseModel):
    """A model version, and what its tags say of the candidate behind it.

    Where somebody else registered the version, what only Tunesmith could know is None.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model_name: str
    """The registered model."""
    version: int
    """Its number, from 1."""
    aliases: tuple[str, ...]
    """The aliases that point at it."""
    candidate_key: str | None
    """The key of the train artifact."""
    primary_metric: str | None
    """The metric that the gate looked at."""
    value: float | None
    """The primary metric's value on the test split."""
    metrics: dict[str, float]
    """All metrics on the test split."""
    decision: dict[str, Any] | None
    """The decision document with which it was registered."""
    promoted_by: str | None
    """The key of the decision that made it the champion once; None when none did."""
    data_digest: str | None
    """The sha256 of the rows behind it."""
    approval: Approval | None = None
    """What a person was asked about it last, and said; None where nobody was asked."""
    lineage: Lineage | None = None
    """How it was trained, and from what; None where nobody wrote it down."""
    mlflow_run_id: str
    """The run that made it."""
    created_unix: float
    """When it was registered, in seconds."""
    source: str
    """Where its files lie."""

    @property
    def metric_text(self) -> str:
        """The primary metric as a person reads it; empty when it is not known."""
        return "" if self.value is None else f"{self.primary_metric} {self.value:.4f}"

    @property
    def verdict(self) -> str:
        """What the gate said of it; empty where none was asked."""
        return "" if self.decision is None else str(self.decision["verdict"])

    @property
    def created_text(self) -> str:
        """When it was registered, as a person reads it."""
        return datetime.fromtimestamp(self.created_unix, UTC).strftime("%Y-%m-%d %H:%M UTC")

    @property
    def uri(self) -> str:
        """The URI that MLflow knows it by."""
        return f"models:/{self.model_name}/{self.version}"


def find_champion(registry: RegistryConfig, tracking: TrackingConfig) -> RegisteredVersion | None:
    """The version in use, or None where there is none yet.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    with mlflow_client(tracking) as client:
        return read_champion(client, registry)


def find_line(registry: RegistryConfig, tracking: TrackingConfig) -> list[RegisteredVersion]:
    """The champion, the version that its training began from, and so on, as far as they are registered.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    if tracking.is_missing():
        return []
    with mlflow_client(tracking) as client:
        versions = _read_all(client, registry.model_name)
    by_key = {version.candidate_key: version for version in versions}  # the oldest, should there be several
    line: list[RegisteredVersion] = []
    found = next((version for version in versions if CHAMPION in version.aliases), None)
    while found is not None and found not in line:
        line.append(found)
        start = None if found.lineage is None else found.lineage.training.start
        found = None if start is None else by_key.get(start.candidate)
    return line


def find_version(candidate_key: str, registry: RegistryConfig, tracking: TrackingConfig) -> RegisteredVersion | None:
    """The version of a candidate, or None where it is not registered.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    with mlflow_client(tracking) as client:
        return read_version(client, registry, candidate_key)


def list_models(tracking: TrackingConfig, model_name: str | None = None) -> list[RegisteredVersion]:
    """Every version of every registered model, or of one: the newest first.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    if tracking.is_missing():
        return []
    with mlflow_client(tracking) as client:
        names = [model.name for model in _pages(client.search_registered_models)]
        found = [_read_all(client, name) for name in names if model_name in (None, name)]
    return [version for versions in found for version in versions]


def find_named(uri: str, tracking: TrackingConfig) -> RegisteredVersion:
    """The version that a URI names: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        ModelError: There is no such model, alias or version; the message lists those that exist.
        TunesmithError: MLflow cannot be reached.
    """
    match = MODEL_URI.match(uri)
    if match is None:
        raise ModelError(f"{uri}: not a model's URI. Write models:/<name>@<alias> or models:/<name>/<version>.")
    return _choose(uri, match, list_models(tracking), tracking)


@contextmanager
def registry_client(model_name: str, tracking: TrackingConfig) -> Iterator[MlflowClient]:
    """A client for what is there of a registered model; nothing is created for it.

    Raises:
        ModelError: There is no registry.
        TunesmithError: MLflow cannot be reached.
    """
    if tracking.is_missing():
        raise ModelError(_describe_unknown(model_name, [], tracking))
    with mlflow_client(tracking) as client:
        yield client


def find_registered(client: MlflowClient, model_name: str) -> list[RegisteredVersion]:
    """The versions of a registered model, the newest first.

    Raises:
        ModelError: There is no such model; the message lists those that exist.
    """
    found = _read_all(client, model_name)
    if not found:
        names = sorted(model.name for model in _pages(client.search_registered_models))
        raise ModelError(_describe_unknown(model_name, names, TrackingConfig(uri=client.tracking_uri)))
    return found


def read_champion(client: MlflowClient, registry: RegistryConfig) -> RegisteredVersion | None:
    """`find_champion` with a client at hand."""
    return next((found for found in _read_all(client, registry.model_name) if CHAMPION in found.aliases), None)


def read_version(client: MlflowClient, registry: RegistryConfig, candidate_key: str) -> RegisteredVersion | None:
    """`find_version` with a client at hand; the oldest, should there be several."""
    found = [item for item in _read_all(client, registry.model_name) if item.candidate_key == candidate_key]
    return min(found, key=lambda item: item.version, default=None)


def has_files(client: MlflowClient, version: RegisteredVersion) -> bool:
    """Whether there is anything left where a version's files were."""
    from mlflow.exceptions import MlflowException

    folder = local_folder(version.source)
    if folder is not None:
        return folder.is_dir()
    try:
        return bool(client.list_artifacts(version.mlflow_run_id, version.source.rpartition("/")[2]))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False  # the run was purged


def _read_all(client: MlflowClient, model_name: str) -> list[RegisteredVersion]:
    models = client.search_registered_models(f"name = '{model_name}'")
    if not models:
        return []
    aliases = {alias: int(version) for alias, version in models[0].aliases.items()}
    versions = _pages(lambda **page: client.search_model_versions(f"name = '{model_name}'", **page))
    return sorted((_read(version, aliases) for version in versions), key=lambda item: -item.version)


def _read(version: ModelVersion, aliases: Mapping[str, int]) -> RegisteredVersion:
    number, tags = int(version.version), version.tags
    value = tags.get("tunesmith.value")
    decision, lineage, metrics = (join_tag(tags, name) for name in (DECISION_TAG, LINEAGE_TAG, METRICS_TAG))
    return RegisteredVersion(
        model_name=version.name,
        version=number,
        aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
        candidate_key=tags.get(CANDIDATE_TAG),
        primary_metric=tags.get("tunesmith.primary_metric"),
        value=None if value is None else float(value),
        metrics=json.loads(metrics or "{}"),
        decision=None if decision is None else json.loads(decision),
        promoted_by=tags.get(PROMOTED_TAG),
        data_digest=tags.get("tunesmith.data_digest"),
        approval=read_approval(tags),
        lineage=None if lineage is None else Lineage.model_validate_json(lineage),
        mlflow_run_id=version.run_id or "",
        created_unix=version.creation_timestamp / 1000,
        source=version.source or "",
    )


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _choose(
    uri: str, match: re.Match[str], versions: list[RegisteredVersion], tracking: TrackingConfig
) -> RegisteredVersion:
    named = [item for item in versions if item.model_name == match["name"]]
    if not named:
        names = sorted({item.model_name for item in versions})
        raise ModelError(f"{uri}: {_describe_unknown(match['name'], names, tracking)}")
    for item in named:
        if match["alias"] in item.aliases or match["version"] == str(item.version):
            return item
    numbers = [str(item.version) for item in named]
    aliases = sorted(alias for item in named for alias in item.aliases)
    raise ModelError(f"{uri}: no such version. Versions: {_list(numbers)}; aliases: {_list(aliases)}.")


def _describe_unknown(model_name: str, names: list[str], tracking: TrackingConfig) -> str:
    return (
        f"no model is registered as {model_name!r}. Registered: {_list(names)}. That is all of "
        f"{tracking.public_uri()}; {TRACKING_VARIABLE} names another store."
    )


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"
