"""Where a candidate stands in the registry: what its decision depends on besides the predictions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tunesmith.tracking.candidate_run import CANDIDATE_TAG
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.glance import Glance, glance
from tunesmith.tracking.registry import CHAMPION, PROMOTED_TAG, has_files, read_champion, read_version


class Standing(BaseModel):
    """The registry as a decision finds it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    champion: int | None
    """The version in use; None where there is none."""
    champion_key: str | None
    """The key of its train artifact; None where somebody else registered it."""
    version: int | None = None
    """The candidate's version; None where it has none yet."""
    promoted_by: str | None = None
    """The key of the decision that made the candidate the champion once; None where none did."""


def find_standing(candidate_key: str, registry: RegistryConfig, tracking: TrackingConfig) -> Standing:
    """Look the champion and a candidate up, in the cheapest way.

    Args:
        candidate_key: The key of its train artifact.
        registry: Which registered model.
        tracking: Where MLflow is.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    database = tracking.database()
    found = None if database is None else glance(database, registry.model_name, (CANDIDATE_TAG, PROMOTED_TAG))
    if found is not None:
        return _read_glance(found, candidate_key)
    with mlflow_client(tracking) as client:
        champion, version = read_champion(client, registry), read_version(client, registry, candidate_key)
    return Standing(
        champion=None if champion is None else champion.version,
        champion_key=None if champion is None else champion.candidate_key,
        version=None if version is None else version.version,
        promoted_by=None if version is None else version.promoted_by,
    )


def find_aliases(
    candidate_key: str, version: int, registry: RegistryConfig, tracking: TrackingConfig
) -> tuple[str, ...] | None:
    """The aliases of a candidate's version, sorted; None where it is not registered as `version` with its files.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    database = tracking.database()
    found = None if database is None else glance(database, registry.model_name, (CANDIDATE_TAG,))
    if found is not None:
        if found.read_tag(version, CANDIDATE_TAG) != candidate_key or not found.has_files(version):
            return None
        return tuple(sorted(alias for alias, number in found.aliases.items() if number == version))
    with mlflow_client(tracking) as client:
        registered = read_version(client, registry, candidate_key)
        if registered is None or registered.version != version or not has_files(client, registered):
            return None
    return registered.aliases


def _read_glance(found: Glance, candidate_key: str) -> Standing:
    champion, version = found.aliases.get(CHAMPION), found.find_tagged(CANDIDATE_TAG, candidate_key)
    champion = champion if champion in found.sources else None
    return Standing(
        champion=champion,
        champion_key=found.read_tag(champion, CANDIDATE_TAG),
        version=version,
        promoted_by=found.read_tag(version, PROMOTED_TAG),
    )
