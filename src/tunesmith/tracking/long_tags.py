"""Tags of a version that are longer than a database takes: in parts, each a tag of its own.

The tag itself then names its parts, which are written before it: a reader finds the old text or the new one, and never
half of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

PART_LENGTH = 15_000
"""Characters of a part: MySQL takes 65,535 bytes, and a character may have four."""
IN_PARTS = "in parts: "
HASH_LENGTH = 12


def split_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags in the order in which they are to be written, the long ones in parts."""
    written: dict[str, str] = {}
    for name, text in tags.items():
        if len(text) <= PART_LENGTH:
            written[name] = text
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
        for number, start in enumerate(range(0, len(text), PART_LENGTH), 1):
            written[f"{name}.{digest}.{number:04d}"] = text[start : start + PART_LENGTH]
        written[name] = f"{IN_PARTS}{name}.{digest}"
    return written


def join_tag(tags: Mapping[str, str], name: str) -> str | None:
    """The whole text of a tag; None where there is none."""
    text = tags.get(name)
    if text is None or not text.startswith(IN_PARTS):
        return text
    prefix = f"{text.removeprefix(IN_PARTS)}."
    return "".join(tags[part] for part in sorted(tags) if part.startswith(prefix))


def find_old_parts(tags: Iterable[str], written: Mapping[str, str]) -> list[str]:
    """Of the tags that a version has, the parts of what has been written anew since."""
    return [tag for tag in tags if tag not in written and tag.rsplit(".", 2)[0] in written]
