"""Values of rows on a terminal: what they hold is seen and has no effect there, and long ones are cut to the width."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
LEAST_WIDTH = 10
"""A column is not made narrower than this; where there are too many for that, each row is a list of its own."""
UNKNOWN_WIDTH = 120
"""Characters of a line where it goes to no terminal."""
MOST_CHARACTERS = 2000
"""No line of a terminal has as many."""
ELLIPSIS = "…"
NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
"""They turn the direction of writing, and that of what follows too."""


def show_value(value: object) -> str:
    r"""A value as one line.

    Example:
        >>> show_value("two\nlines"), show_value(None), show_value(True), show_value(1.0)
        ('two\\nlines', '-', 'true', '1.0')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(map(_show_character, str(value)[:MOST_CHARACTERS]))


def terminal_width() -> int:
    """Characters of a line."""
    return max(shutil.get_terminal_size((UNKNOWN_WIDTH, 24)).columns, 2 * LEAST_WIDTH)


def format_cells(header: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> str:
    """Lay out rows under a header within some width: a table, or a list a row where there are too many columns.

    Args:
        header: The columns' names.
        rows: Their values.
        width: Characters of a line, of which some take two places.
    """
    cells = [[show_value(value) for value in row] for row in rows]
    names = [show_value(name) for name in header]
    natural = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    room = width - GAP * (len(names) - 1)
    if sum(min(size, LEAST_WIDTH) for size in natural) > room:
        return _format_lists(names, cells, width)
    widths = _share(natural, room)
    return "\n".join(_join(line, widths) for line in [names, *cells])


def _share(natural: Sequence[int], room: int) -> list[int]:
    """Widths that fit: narrow columns have all that they need, and the wide ones as much as one another."""
    widths, left = list(natural), room
    for place, index in enumerate(sorted(range(len(natural)), key=natural.__getitem__)):
        widths[index] = min(natural[index], left // (len(natural) - place))
        left -= widths[index]
    return widths


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [_cut(cell, size) for cell, size in zip(cells, widths, strict=True)]
    padded = [cell + " " * (size - cell_len(cell)) for cell, size in zip(fitted, widths, strict=True)]
    return (" " * GAP).join(padded).rstrip()


def _format_lists(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    longest = min(max(map(cell_len, names)), width // 2)
    lists = []
    for row in rows:
        room = max(LEAST_WIDTH, width - longest - GAP)
        lines = [_join([name, _cut(cell, room)], [longest, room]) for name, cell in zip(names, row, strict=True)]
        lists.append("\n".join(lines))
    return "\n\n".join(lists)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + ELLIPSIS


def _show_character(character: str) -> str:
    if character in NAMED:
        return NAMED[character]
    is_hidden = unicodedata.category(character) in ("Cc", "Zl", "Zp") or ord(character) in TURNING
    return f"\\u{ord(character):04x}" if is_hidden else character
