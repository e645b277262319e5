"""Aligned columns and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a header; every column but the last is padded to its widest cell.

    Example:
        >>> print(format_table(["stage", "key"], [["snapshot", "3f"], ["split", "a0"]]))
        stage     key
        snapshot  3f
        split     a0
    """
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines)


def format_bytes(num_bytes: float) -> str:
    """A size with a unit.

    Example:
        >>> format_bytes(363_500_000)
        '364 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}" if num_bytes < 999.5 else f"{num_bytes:,.0f} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration.

    Example:
        >>> format_seconds(0.04), format_seconds(75.2)
        ('0.0 s', '1 min 15 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
