"""Small files, and what comes of reading them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.files import find_files
from tunesmith.data.origins import Rows
from tunesmith.data.readers import read_files
from tunesmith.data.sources import DataConfig


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """A data section as a recipe in `tmp_path` would give it."""

    def build(*files: str, **options: Any) -> DataConfig:
        section = json.dumps({"files": files, **options})
        return DataConfig.model_validate_json(section, context={"folder": tmp_path})

    return build


@pytest.fixture
def read(tmp_path: Path, config: Callable[..., DataConfig]) -> Callable[..., Rows]:
    """Writes one file and reads it."""

    def read_file(name: str, content: str | bytes, **options: Any) -> Rows:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        section = config(name, **options)
        return read_files(find_files(section), section).rows

    return read_file
