"""How commands that name an artifact by its key are told where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.errors import CallError
from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.store.folder import FolderStore

store_option = click.option(
    "--store", metavar="URI", help="Where what is named by its key lies; by default store/ in TUNESMITH_HOME."
)


def open_named_store(uri: str | None) -> FolderStore:
    """The store of a URI, or that of the home.

    Raises:
        CallError: It is no store's URI.
    """
    from pydantic import ValidationError

    from tunesmith.store.config import StoreConfig, open_store

    try:
        config = StoreConfig(uri=uri or "")
    except ValidationError as error:
        raise CallError(f"--store {uri}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return open_store(config.located(Path.cwd(), Home.locate(os.environ, Path.cwd()).store_uri, ""))
