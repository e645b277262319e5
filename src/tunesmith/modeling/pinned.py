"""Which base model an adapter belongs to, when the two are kept apart."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import ModelError
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.locate import find_cached, is_file_or_folder, locate_base
from tunesmith.store.keys import file_sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")


class PinnedBase(BaseModel):
    """A base model by where it lies and by the bytes that it must have."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base: str
    """`package:<import name>/<folder>`, an absolute path, or a Hub id."""
    revision: str | None
    """The commit of a Hub id."""
    files: dict[str, str]
    """The sha256 of each file of its weights, its configuration and its tokenizer, by its name."""

    @classmethod
    def pin(cls, config: ModelConfig) -> PinnedBase:
        """Say which files a recipe's base model stands for now.

        Raises:
            ModelError: There is no such base model.
        """
        base = find_base(config)
        if is_file_or_folder(config.base):
            place = config.base if config.base.startswith("package:") else str(base.folder.absolute())
            return cls(base=place, revision=None, files=base.files)
        # A branch or a tag may move; the cache of the Hub keeps each commit in a folder of its name.
        commit = base.folder.name if _COMMIT.fullmatch(base.folder.name) else config.revision
        return cls(base=config.base, revision=commit, files=base.files)

    def find(self) -> Path:
        """The folder of the base model. What lies on this machine is used; only from the Hub is anything fetched.

        Raises:
            ModelError: It is gone, or one of its files is another one; says which, and what to do.
        """
        cached = None if is_file_or_folder(self.base) else find_cached(self.base, self.revision)
        if cached is not None and self._find_problem(cached) is None:
            return cached
        try:
            folder = locate_base(self.base, self.revision)
        except ModelError as error:
            raise ModelError(f"the base model of the adapter: {str(error).removeprefix('model.base: ')}") from error
        problem = self._find_problem(folder)
        if problem is not None:
            raise ModelError(
                f"{folder}: is not the base model that the adapter was trained on: {problem}. Put that one there again."
            )
        return folder

    def _find_problem(self, folder: Path) -> str | None:
        for name, sha256 in self.files.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if file_sha256(folder / name) != sha256:
                return f"{name} has other bytes"
        return None
