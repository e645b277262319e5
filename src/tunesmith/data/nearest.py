"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def find_nearest(name: str, present: Iterable[str]) -> str:
    """A hint at the nearest of the names that there are; empty when none is near.

    Example:
        >>> find_nearest("lable", ["text", "label"])
        ' Did you mean label?'
    """
    by_lower_case = {other.lower(): other for other in present}
    near = get_close_matches(name.lower(), by_lower_case, n=1)
    return f" Did you mean {by_lower_case[near[0]]}?" if near else ""
