"""Files of a dataset on the Hugging Face Hub: found at one commit, and copied into the store's folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.files import SourceFile, describe_file
from tunesmith.data.nearest import find_nearest
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.sources import HubOptions
from tunesmith.errors import DataError, TunesmithError
from tunesmith.store.keys import compute_key, file_sha256
from tunesmith.store.sealed import write_json_atomically

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset's repository.

    Attributes:
        path: Its path there.
        sha256: Of its bytes, for a large file; empty for a small one.
        blob_id: The id that git gives its bytes, for a small one.
    """

    path: str
    sha256: str
    blob_id: str


@dataclass(frozen=True)
class Listing:
    """What a dataset's repository holds at one commit."""

    commit: str
    files: tuple[HubFile, ...]


def find_hub_files(
    hub: HubOptions, options: ReaderOptions, folder: Path, endpoint: str | None = None
) -> Iterator[SourceFile]:
    """The files of a dataset that a source names, as files on this machine.

    What was copied before is not copied again; every copy is held against the hash that the Hub tells of it. Where
    the revision is a commit, and all is here, the Hub is not asked.

    Args:
        hub: Which files of which dataset.
        options: How they are read.
        folder: Where copies are kept.
        endpoint: The Hub's address; by default HF_ENDPOINT, else the Hub's own.

    Raises:
        DataError: There is no such dataset, revision or file, or we may not read it.
        TunesmithError: The Hub cannot be reached.
    """
    listing = _list_files(hub, folder, endpoint)
    for found in _match(hub, listing):
        place = f"hf://datasets/{hub.dataset}@{listing.commit[:12]}/{found.path}"
        describe_file(Path(found.path), options, place)
        path = _ensure_copy(hub, listing.commit, found, folder, endpoint)
        yield replace(describe_file(path, options, place), sha256=file_sha256(path))


def _list_files(hub: HubOptions, folder: Path, endpoint: str | None) -> Listing:
    """The repository at a revision; a commit never changes, so that what was listed once still holds."""
    note = folder / "listings" / f"{compute_key({'dataset': hub.dataset, 'commit': hub.revision})}.json"
    if COMMIT.fullmatch(hub.revision) and note.exists():
        known = json.loads(note.read_bytes())
        return Listing(known["commit"], tuple(HubFile(**file) for file in known["files"]))
    from huggingface_hub import HfApi

    with _explain(hub):
        info = HfApi(endpoint).dataset_info(hub.dataset, revision=hub.revision, files_metadata=True)
    listing = _as_listing(info)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(note, asdict(listing))
    return listing


def _as_listing(info: DatasetInfo) -> Listing:
    files = [
        HubFile(file.rfilename, file.lfs.sha256 if file.lfs else "", file.blob_id or "") for file in info.siblings or ()
    ]
    return Listing(info.sha or "", tuple(sorted(files, key=lambda file: file.path)))


def _match(hub: HubOptions, listing: Listing) -> list[HubFile]:
    """The files by the order in which the recipe names them, globs by name; `*` matches `/`, too."""
    names = [file.path for file in listing.files]
    found = []
    for pattern in hub.files:
        matching = [file for file in listing.files if file.path == pattern or fnmatchcase(file.path, pattern)]
        if not matching:
            raise DataError(
                f"hub dataset {hub.dataset} at {hub.revision}: no file matches {pattern!r}."
                f"{find_nearest(pattern, names) or _list(names)} Correct the source's hub.files."
            )
        found += matching
    return found


def _ensure_copy(hub: HubOptions, commit: str, file: HubFile, folder: Path, endpoint: str | None) -> Path:
    """The verified copy of a file; one that is damaged is fetched once more."""
    from huggingface_hub import hf_hub_download

    for is_forced in (False, True):
        with _explain(hub):
            path = hf_hub_download(
                hub.dataset,
                file.path,
                repo_type="dataset",
                revision=commit,
                cache_dir=folder / "files",
                endpoint=endpoint,
                force_download=is_forced,
            )
        if _is_whole(Path(path), file):
            return Path(path).resolve()
        log.warning("fetch: the copy of %s from %s is damaged", file.path, hub.dataset)
    raise TunesmithError(
        f"hub dataset {hub.dataset}: {file.path} arrived damaged twice: its bytes are not those that the Hub tells of. "
        "Try again later, or another network."
    )


def _is_whole(path: Path, file: HubFile) -> bool:
    if file.sha256:
        return file_sha256(path) == file.sha256
    if not file.blob_id:
        return True
    content = path.read_bytes()
    # The way in which git names bytes; no secret depends on it.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob_id


@contextmanager
def _explain(hub: HubOptions) -> Iterator[None]:
    """Say what an error of the Hub's client means."""
    from httpx2 import HTTPError
    from huggingface_hub import errors

    place = f"hub dataset {hub.dataset}"
    try:
        yield
    except errors.HFValidationError as error:
        raise DataError(f"{place}: {_first_line(error)}. Correct the source's hub.dataset.") from None
    except errors.GatedRepoError:
        raise DataError(
            f"{place}: it is gated. Ask for access on its page, and put a token into HF_TOKEN or run `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"{place}: there is no such dataset, or it is private. Correct the source's hub.dataset; for a private one "
            "put a token into HF_TOKEN or run `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise DataError(f"{place}: there is no revision {hub.revision!r}. Correct the source's hub.revision.") from None
    except errors.OfflineModeIsEnabled:
        raise DataError(
            f"{place} at {hub.revision}: it is not here yet, and HF_HUB_OFFLINE forbids to fetch it. Unset that once."
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise DataError(
                f"{place}: the Hub refuses us ({status}). Check HF_TOKEN, or run `hf auth login`."
            ) from None
        raise TunesmithError(f"{place}: the Hub answers with an error ({_first_line(error)}). Try again.") from None
    except (errors.EntryNotFoundError, HTTPError, OSError) as error:
        raise TunesmithError(
            f"{place}: the Hub cannot be reached ({_first_line(error)}). Check the network and HF_ENDPOINT, and try "
            "again."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _list(names: Sequence[str]) -> str:
    return f" It holds {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}." if names else " It holds no files."
