"""Names of parameters and metrics that MLflow takes, whatever the labels and columns that they are made of.

A refused character is written as its number, such as `_x26_` for `&`; a name that is too long is cut, and ends in a
hash of all of it. Every other name stays as it is, and no two names become one.
"""

from __future__ import annotations

import hashlib
import re

MAX_NAME_LENGTH = 250
"""MLflow's limit on the characters of a name."""
HASH_LENGTH = 12

REFUSED = (
    r"[^/\w.\- :]"
    r"|^/|/(?=/|\Z)"  # a name is a path, and a path must be in its shortest form
    r"|(?:^|(?<=/))\.(?=\.?(?:/|\Z))|^\.(?=\.)"
)
WRITTEN = r"_x[0-9A-F]+_"
"""What stands for a character."""
IS_CHANGED = re.compile(f"{REFUSED}|{WRITTEN}")
TO_WRITE = re.compile(f"{REFUSED}|_(?=x)")


def find_mlflow_name(name: str) -> str:
    """The name under which MLflow keeps a parameter or a metric.

    Example:
        >>> find_mlflow_name("test/cost_R&D")
        'test/cost_R_x26_D'
    """
    taken = name
    if IS_CHANGED.search(name):
        taken = TO_WRITE.sub(lambda found: f"_x{ord(found[0]):X}_", name)
    if len(taken) <= MAX_NAME_LENGTH:
        return taken
    digest = hashlib.sha256(name.encode()).hexdigest()[:HASH_LENGTH]
    return f"{taken[: MAX_NAME_LENGTH - HASH_LENGTH - 1]}-{digest}"
