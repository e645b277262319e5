"""Where the files of a base model lie: in a folder, in an installed Python package, or on the Hub."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationInfo

from tunesmith.errors import ModelError

GGUF_SUFFIX = ".gguf"

HUB_TIMEOUT_SECONDS = 5.0
"""How long the Hub may take to answer before it counts as unreachable."""

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model", "chat_template.jinja"),
)
"""What belongs to a tokenizer, as patterns."""

PACKAGE = re.compile(r"package:(?P<package>[A-Za-z_]\w*)/(?P<folder>[^\\]+)")
"""The name of a folder, or of a .gguf file, in an installed Python package."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_file_or_folder(base: str) -> bool:
    """Whether a base is on this machine by its name alone, and not a Hub id."""
    return _is_path(base) or base.startswith("package:")


def resolve_base(value: str, info: ValidationInfo) -> str:
    """A recipe's base, checked; a path is made relative to the recipe's folder.

    Raises:
        ValueError: It is none of the things that a base can be.
    """
    if value.startswith("package:"):
        match = PACKAGE.fullmatch(value)
        if match is None or not {".", ".."}.isdisjoint(Path(match["folder"]).parts):
            raise ValueError(
                "after 'package:' come an import name and a folder, or a .gguf file, in it: 'package:my_models/tiny'"
            )
        return value
    if _is_path(value):
        folder = (info.context or {}).get("folder")
        return str((Path(folder) / Path(value).expanduser()).absolute()) if folder is not None else value
    if not _HUB_ID.fullmatch(value):
        raise ValueError(
            "is none of './folder', './file.gguf', 'package:<import name>/<folder>' and a Hub id such as 'org/name'"
        )
    return value


def locate_base(base: str, revision: str | None) -> Path:
    """The folder or the GGUF file that a base names; one on the Hub is fetched.

    Raises:
        ModelError: There is no such package or Hub model, or it cannot be reached; a path is not looked at.
    """
    match = PACKAGE.fullmatch(base)
    if match is not None:
        return _find_in_package(match["package"], match["folder"])
    if _is_path(base):
        return Path(base).expanduser()
    return _fetch(base, revision)


def find_cached(name: str, revision: str | None) -> Path | None:
    """The folder in the cache of the Hub, without a look at the Hub; None where there is none. It may lack files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _is_path(base: str) -> bool:
    return base.startswith((".", "/", "~")) or Path(base).is_absolute()


def _find_in_package(package: str, folder: str) -> Path:
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise ModelError(
            f"model.base: the Python package {package!r} is not installed. "
            f"Install it: pip install {package.replace('_', '-')}"
        )
    found = [Path(place) / folder for place in places if (Path(place) / folder).exists()]
    if not found:
        what = "file" if folder.endswith(GGUF_SUFFIX) else "folder"
        raise ModelError(
            f"model.base: the Python package {package!r} has no {what} {folder!r}; it lies in {places[0]}."
        )
    return found[0]


def _fetch(name: str, revision: str | None) -> Path:
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    from tunesmith.modeling.quiet import quiet_libraries

    quiet_libraries()
    wanted = [*TOKENIZER_FILES, "config.json", "generation_config.json", "model*.safetensors", "*.index.json"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, etag_timeout=HUB_TIMEOUT_SECONDS))
    except RevisionNotFoundError as error:
        raise ModelError(f"model.revision: {name!r} has no revision {revision!r} on the Hub.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"model.base: the Hub has no public model {name!r}. "
            f"Correct the name, or write './{name}' for a folder beside the recipe."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise ModelError(
            f"model.base: {name!r} is not on this machine, and the Hub could not be reached. Try again with a network, "
            f"write './{name}' for a folder beside the recipe, or name an installed package: 'package:my_models/tiny'."
        ) from error
