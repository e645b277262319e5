"""Tables and text of a markdown page, which no value can break."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

MAX_TEXT = 500
"""Characters of a value that a page shows."""
MARKS = re.compile(r"[\\`*\[\]~|]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=www)\.")
"""What makes a picture, a link, code, emphasis or a cell of a text; a line through a word, as in f1_macro, does not."""
BEGINNING = re.compile(r"^(\d*)([#>]|[-+.)](?= |$))")
"""What makes a heading, a quotation or a list of a line that begins with it."""


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are markdown already."""
    rule = "|".join(" --- " for _ in header)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(header) + " |", f"|{rule}|", *lines])


def escape_text(value: str, limit: int = MAX_TEXT) -> str:
    """Text that stands in a table's cell or a line without breaking it, and stays text: no picture, no link."""
    short = value if len(value) <= limit else value[: limit - 3] + "..."
    line = MARKS.sub(r"\\\g<0>", " ".join(short.split()).replace("&", "&amp;").replace("<", "&lt;"))
    return BEGINNING.sub(r"\1\\\2", line)


def render_picture(name: str, png: bytes) -> str:
    """A picture in the page itself."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
