"""Writing to the registry: a version exactly once per candidate, and the alias exactly once per decision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.tracking.candidate_run import CANDIDATE_TAG
from tunesmith.tracking.config import RegistryConfig
from tunesmith.tracking.history import change_champion, finish_changes, set_candidate
from tunesmith.tracking.lineage import ADAPTER
from tunesmith.tracking.long_tags import find_old_parts, split_tags
from tunesmith.tracking.registry import (
    CHAMPION,
    PROMOTED_TAG,
    RegisteredVersion,
    find_registered,
    has_files,
    read_champion,
    read_version,
)

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)


def check_part(client: MlflowClient, registry: RegistryConfig, candidate_key: str, part: str) -> None:
    """Refuse to exchange the files of a version: what it is served from is written down once.

    Raises:
        ModelError: The candidate is registered with another folder than `part`.
    """
    found = read_version(client, registry, candidate_key)
    if found is not None and not found.source.endswith(f"/{part}"):
        how = "with its merged weights" if part == ADAPTER else "as an adapter alone"
        raise ModelError(
            f"export.merged: this candidate is registered already, {how}, as {found.uri}, and that keeps its files. "
            "Set export.merged back; the next rows or other settings make a candidate that can be registered otherwise."
        )


def ensure_version(
    client: MlflowClient, registry: RegistryConfig, candidate_key: str, run: Run, part: str, tags: Mapping[str, str]
) -> RegisteredVersion:
    """The one version of a candidate, created where there is none; its tags are brought up to date.

    Args:
        client: The client; on a SQLite store the caller holds the lock (`exclusive`).
        registry: Which registered model.
        candidate_key: The key of the train artifact.
        run: The candidate's run, whose artifacts the model's files are.
        part: Which folder of them the version is served from.
        tags: What the version says of itself, besides the candidate.
    """
    tags = split_tags(tags)
    found = read_version(client, registry, candidate_key)
    if found is None:
        found = _create_version(client, registry, candidate_key, run, part, tags)
    elif found.mlflow_run_id != run.info.run_id and not has_files(client, found):
        found = _replace(client, registry, found, run, part)
    if not found.aliases and found.promoted_by is None and found.version == _find_newest(client, registry):
        set_candidate(client, found)
    present = client.get_model_version(registry.model_name, str(found.version)).tags
    for name, value in tags.items():
        if present.get(name) != value:
            client.set_model_version_tag(registry.model_name, str(found.version), name, value)
    for name in find_old_parts(present, tags):
        client.delete_model_version_tag(registry.model_name, str(found.version), name)
    return _reread(client, registry, candidate_key)


def promote(
    client: MlflowClient,
    registry: RegistryConfig,
    version: RegisteredVersion,
    decision: Mapping[str, Any],
    decision_key: str,
    approved: str = "",
) -> RegisteredVersion:
    """Carry a PROMOTE decision out: once, and only while the champion is the one that it compared with.

    Args:
        client: The client; on a SQLite store the caller holds the lock (`exclusive`).
        registry: Which registered model.
        version: The candidate's version.
        decision: The decision document.
        decision_key: Its key.
        approved: By whom, and why, where a person was asked.
    """
    name, number = version.model_name, str(version.version)
    if client.get_model_version(name, number).tags.get(PROMOTED_TAG) == decision_key:
        return version
    if any(change.decision == decision_key for change in finish_changes(client, name)):
        return _mark_promoted(client, registry, version, decision_key)
    champion = read_champion(client, registry)
    if champion is not None and not _is_displaced(champion, version, decision):
        log.warning(
            "%s stays the champion: it became so after version %s was judged, which has to be judged again.",
            champion.uri,
            number,
        )
        return version
    if champion is None or champion.version != version.version:
        why = " ".join(filter(None, [*decision["reasons"], approved]))
        change_champion(client, name, version.version, decision_key, why)
    return _mark_promoted(client, registry, version, decision_key)


def finish_promotion(client: MlflowClient, registry: RegistryConfig, version: RegisteredVersion) -> RegisteredVersion:
    """Write down which decision promoted a version, should a crash have come before that; decide nothing.

    Args:
        client: The client; on a SQLite store the caller holds the lock (`exclusive`).
        registry: Which registered model.
        version: A version that is the champion, or was it once.
    """
    changes = finish_changes(client, version.model_name)
    decisions = [change.decision for change in changes if change.version == version.version and change.decision]
    if version.promoted_by is not None or not decisions:
        return _reread(client, registry, str(version.candidate_key))
    return _mark_promoted(client, registry, version, decisions[-1])


def _mark_promoted(
    client: MlflowClient, registry: RegistryConfig, version: RegisteredVersion, decision_key: str
) -> RegisteredVersion:
    client.set_model_version_tag(version.model_name, str(version.version), PROMOTED_TAG, decision_key)
    return _reread(client, registry, str(version.candidate_key))


def _reread(client: MlflowClient, registry: RegistryConfig, candidate_key: str) -> RegisteredVersion:
    found = read_version(client, registry, candidate_key)
    if found is None:
        raise TunesmithError(f"the version of candidate {candidate_key} was deleted meanwhile; run again.")
    return found


def _find_newest(client: MlflowClient, registry: RegistryConfig) -> int:
    return max(version.version for version in find_registered(client, registry.model_name))


def _is_displaced(champion: RegisteredVersion, version: RegisteredVersion, decision: Mapping[str, Any]) -> bool:
    """Whether the champion is the one that the decision compared with, or the candidate itself."""
    compared = decision["champion"]
    keys = {version.candidate_key, None if compared is None else compared["key"]}
    return champion.candidate_key is not None and champion.candidate_key in keys


def _create_version(
    client: MlflowClient, registry: RegistryConfig, candidate_key: str, run: Run, part: str, tags: Mapping[str, str]
) -> RegisteredVersion:
    _ensure_registered_model(client, registry.model_name)
    created = client.create_model_version(
        registry.model_name,
        source=f"{run.info.artifact_uri}/{part}",
        run_id=run.info.run_id,
        tags={**tags, CANDIDATE_TAG: candidate_key},
        await_creation_for=0,
    )
    # A server has no lock for us: when two processes created one at once, the lower stands, and ours goes.
    first = _reread(client, registry, candidate_key)
    if first.version != int(created.version):
        client.delete_model_version(registry.model_name, str(created.version))
    return first


def _replace(
    client: MlflowClient, registry: RegistryConfig, lost: RegisteredVersion, run: Run, part: str
) -> RegisteredVersion:
    """A version in the place of one whose run was purged, files and all: MLflow lets no version name other files."""
    name, key = lost.model_name, str(lost.candidate_key)
    made = [other.version for other in find_registered(client, name) if _is_of(other, key, run)]
    if not made:
        tags = client.get_model_version(name, str(lost.version)).tags
        source = f"{run.info.artifact_uri}/{part}"
        created = client.create_model_version(
            name, source=source, run_id=run.info.run_id, tags=tags, await_creation_for=0
        )
        made = [int(created.version)]
    log.warning("%s: its run was purged from MLflow, and its files; it is version %d now.", lost.uri, made[0])
    for alias in lost.aliases:
        if alias == CHAMPION:
            change_champion(client, name, made[0], None, f"The same model as version {lost.version}, which was purged.")
        else:
            client.set_registered_model_alias(name, alias, str(made[0]))
    client.delete_model_version(name, str(lost.version))
    return _reread(client, registry, key)


def _is_of(version: RegisteredVersion, candidate_key: str, run: Run) -> bool:
    return version.candidate_key == candidate_key and version.mlflow_run_id == run.info.run_id


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(f"name = '{name}'"):
        return
    try:
        client.create_registered_model(name)
    except MlflowException:
        # Another process may have created it meanwhile.
        if not client.search_registered_models(f"name = '{name}'"):
            raise
