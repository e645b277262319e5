"""Tables and text of a markdown page, which no value can break."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

MAX_TEXT = 500
"""Characters of a value that a page shows."""


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are markdown already."""
    rule = "|".join(" --- " for _ in header)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(header) + " |", f"|{rule}|", *lines])


def escape_text(value: str, limit: int = MAX_TEXT) -> str:
    """Text that stands in a table's cell without breaking it, and stays text."""
    short = value if len(value) <= limit else value[: limit - 3] + "..."
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        short = short.replace(mark, escaped)
    return short


def render_picture(name: str, png: bytes) -> str:
    """A picture in the page itself."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
