"""A look at a SQLite registry without MLflow, whose import and opening take 4 seconds.

A run with nothing to do asks no more than this.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tunesmith.errors import TunesmithError

DELETED = "Deleted_Internal"
"""What MLflow writes as the stage of a version that was deleted."""

QUERY = """
    SELECT v.source FROM model_versions v
    JOIN model_version_tags t ON t.workspace = v.workspace AND t.name = v.name AND t.version = v.version
    WHERE v.name = ? AND v.version = ? AND v.current_stage != ? AND t.key = ? AND t.value = ?
"""


def has_tagged_version(database: Path, model_name: str, version: int, tag: str, value: str) -> bool | None:
    """Whether a version is registered with a tag, and its files are there.

    Returns:
        None when the tables are not as this module knows them, and MLflow itself must be asked.

    Raises:
        TunesmithError: The file is not a database that can be read.
    """
    if not database.exists():
        return False
    uri = f"file:{quote(str(database.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            row = connection.execute(QUERY, (model_name, version, DELETED, tag, value)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise TunesmithError(f"{database}: MLflow's database cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise TunesmithError(f"{database}: MLflow's database is damaged: {error}. Restore it from a backup.") from error
    return row is not None and _is_there(row[0] or "")


def local_folder(source: str) -> Path | None:
    """The local folder that a version's source names, or None where it lies elsewhere."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(source) if not parts.scheme else None


def _is_there(source: str) -> bool:
    folder = local_folder(source)
    return folder is None or folder.is_dir()
