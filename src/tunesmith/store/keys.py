"""Keys: the sha256 of canonical JSON, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import xxhash

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits, far beyond any accidental collision."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no insignificant space; equal values give equal text.

    Raises:
        ValueError: `value` holds NaN or an infinity, which have no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def compute_key(value: Any) -> str:
    """The key of a JSON value.

    Example:
        >>> compute_key({"a": 1, "b": 2}) == compute_key({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_LENGTH]


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksum(path: Path) -> str:
    """The xxh3 of a file's bytes, as 32 hex digits: tells damage from intact bytes, and nothing about attacks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def folder_digest(folder: Path) -> str:
    """What a folder holds, as a key: the names and the bytes of all files in it.

    What using a model leaves behind where it lies is left out: what Python compiles of its loader, and which version
    MLflow loaded it as.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_left_behind(path, folder))
    return compute_key({path.relative_to(folder).as_posix(): file_sha256(path) for path in files})


def _is_left_behind(path: Path, folder: Path) -> bool:
    return path.parent.name == "__pycache__" or path == folder / "registered_model_meta"
