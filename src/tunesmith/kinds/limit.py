"""How long an example may be, and what becomes of a longer text."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

OnOverflow = Literal["truncate", "window", "drop", "stop"]


class Limit(BaseModel):
    """How long an example may be, and what becomes of a longer text."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    max_length: int | None
    """Tokens of the longest example, special ones included; None for no limit."""
    on_overflow: OnOverflow = "truncate"
    """What becomes of a longer row: its end is cut, it makes several examples, it leaves, or all stops."""
    stride: int = 0
    """Tokens that two windows of one text share; only with `window`."""
