"""References: what crosses a stage's border instead of data and models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

Facts = Mapping[str, Any]
"""Small JSON values about an artifact: counts, names, metrics."""


class Ref(BaseModel):
    """Where an artifact lies, and what is known of it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: str
    """The stage that made it, such as `snapshot`."""
    key: str
    """What it is made of, as a hash: the same on every machine."""
    uri: str
    """Its folder."""
    facts: dict[str, Any] = {}
    """Small JSON values: rows, labels, metrics, seconds."""
    is_cached: bool = False
    """Whether the call that returned this found it instead of computing it."""
    reason: str = ""
    """Why it was computed; empty when it was found."""
    seconds: float = 0.0
    """How long the call that returned this took."""

    @property
    def folder(self) -> Path:
        """The local folder that holds its files."""
        return Path(self.uri)
