"""A look at a SQLite registry without MLflow, whose import and opening take 4 seconds.

A run with nothing to do asks no more than this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tunesmith.errors import TunesmithError

DELETED = "Deleted_Internal"
"""What MLflow writes as the stage of a version that was deleted."""

HERE = "workspace = 'default' AND name = ?"
VERSIONS = f"SELECT version, source FROM model_versions WHERE {HERE} AND current_stage != ?"
TAGS = f"SELECT version, key, value FROM model_version_tags WHERE {HERE}"
ALIASES = f"SELECT alias, version FROM registered_model_aliases WHERE {HERE}"


@dataclass(frozen=True)
class Glance:
    """A registered model as its tables have it.

    Attributes:
        sources: Where the files of each version lie, by its number.
        tags: The tags that were asked for, by the version's number.
        aliases: The version of each alias.
    """

    sources: dict[int, str]
    tags: dict[int, dict[str, str]]
    aliases: dict[str, int]

    def find_tagged(self, tag: str, value: str) -> int | None:
        """The oldest version with a tag; None where there is none."""
        return min((number for number in self.sources if self.read_tag(number, tag) == value), default=None)

    def read_tag(self, version: int | None, tag: str) -> str | None:
        """A tag of a version; None where there is no such version, or it has no such tag."""
        return None if version is None else self.tags.get(version, {}).get(tag)

    def has_files(self, version: int) -> bool:
        """Whether a version is there, and its files, as far as they are on this machine."""
        if version not in self.sources:
            return False
        folder = local_folder(self.sources[version])
        return folder is None or folder.is_dir()


def glance(database: Path, model_name: str, tags: Sequence[str]) -> Glance | None:
    """Look at a registered model.

    Args:
        database: MLflow's SQLite file.
        model_name: The registered model; where there is none, nothing is found.
        tags: The names of the tags to read.

    Returns:
        None when the tables are not as this module knows them, and MLflow itself must be asked.

    Raises:
        TunesmithError: The file is not a database that can be read.
    """
    if not database.exists():
        return Glance({}, {}, {})
    uri = f"file:{quote(str(database.absolute()))}?mode=ro"
    wanted = f"{TAGS} AND key IN ({', '.join('?' * len(tags))})"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            connection.execute("BEGIN")  # all three are of one moment
            versions = connection.execute(VERSIONS, (model_name, DELETED)).fetchall()
            found = connection.execute(wanted, (model_name, *tags)).fetchall()
            aliases = connection.execute(ALIASES, (model_name,)).fetchall()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise TunesmithError(f"{database}: MLflow's database cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise TunesmithError(f"{database}: MLflow's database is damaged: {error}. Restore it from a backup.") from error
    by_version: dict[int, dict[str, str]] = {}
    for version, name, value in found:
        by_version.setdefault(int(version), {})[name] = value
    sources = {int(version): source or "" for version, source in versions}
    return Glance(sources, by_version, {alias: int(version) for alias, version in aliases})


def local_folder(source: str) -> Path | None:
    """The local folder that a version's source names, or None where it lies elsewhere."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(source) if not parts.scheme else None
