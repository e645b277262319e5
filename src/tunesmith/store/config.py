"""Where artifacts lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from tunesmith.section import NOT_IN_KEY, Conflict, Section
from tunesmith.store.folder import FolderStore
from tunesmith.store.s3 import S3Config, find_uri_problem, is_s3_uri


class StoreConfig(Section):
    """Where artifacts lie."""

    uri: str = ""
    """A folder, or `s3://bucket/prefix`, which many machines share; by default `store/` in TUNESMITH_HOME."""
    s3: S3Config | None = None
    """Which S3 server, for an `s3://` uri; by default the one that AWS's environment variables say."""
    cache: Annotated[str, NOT_IN_KEY] = ""
    """For an `s3://` uri, this machine's folder for copies of what lies there; by default in TUNESMITH_HOME."""
    grace_seconds: Annotated[float | None, Field(gt=0, le=3600), NOT_IN_KEY] = None
    """For an `s3://` uri, how long after SIGTERM a training may go on, to bring its checkpoint there; by default 25."""
    recipe: str = ""
    """Whose earlier runs a change is explained against; by default the recipe's name."""

    @field_validator("uri")
    @classmethod
    def _is_a_folder_or_on_s3(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme != "s3":
            raise ValueError(f"{scheme}:// is not known; write a folder, or s3://bucket/prefix")
        problem = find_uri_problem(value) if is_s3_uri(value) else None
        if problem is not None:
            raise ValueError(problem)
        return value

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Options that have no effect on a folder."""
        uri = values.get("uri", "")
        if isinstance(uri, str) and "://" not in uri:
            for name in ("s3", "cache", "grace_seconds"):
                if values.get(name) not in (None, ""):
                    yield (name,), "has no effect on a folder; remove it, or write uri: s3://bucket/prefix"

    def located(self, folder: Path, home_store: str, recipe: str) -> StoreConfig:
        """This configuration with everything filled in.

        Args:
            folder: What a relative folder is relative to.
            home_store: The store's folder in TUNESMITH_HOME.
            recipe: The recipe's name.
        """
        named = {"recipe": self.recipe or recipe}
        if not is_s3_uri(self.uri):
            uri = str((folder / self.uri).absolute()) if self.uri else home_store
            return self.model_copy(update={**named, "uri": uri})
        cache = str((folder / self.cache).absolute()) if self.cache else home_store
        return self.model_copy(update={**named, "uri": self.uri.rstrip("/"), "cache": cache})


def open_store(config: StoreConfig) -> FolderStore:
    """The store that a loaded recipe names.

    Example:
        >>> open_store(StoreConfig(uri="/data/store")).root.name
        'store'
    """
    if not is_s3_uri(config.uri):
        return FolderStore(Path(config.uri), config.recipe)
    from tunesmith.store.remote import GRACE_SECONDS, RemoteStore

    grace = config.grace_seconds or GRACE_SECONDS
    return RemoteStore(config.uri, config.s3 or S3Config(), Path(config.cache), config.recipe, grace_seconds=grace)
