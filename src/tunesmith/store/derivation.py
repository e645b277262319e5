"""A derivation: what an artifact will be made of and how to make it, known before anything is computed.

Every stage is one function that describes its derivation (`derive_encode(...)`) and one that realizes it
(`encode(..., store)`). `plan` looks at the descriptions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunesmith.store.code import code_identity
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref

Ingredients = Mapping[str, Mapping[str, Any]]
"""What a key is the hash of, in groups: config, inputs, code, libraries."""


@dataclass(frozen=True)
class Derivation:
    """What an artifact is made of, and how to make it.

    Attributes:
        kind: The stage's name.
        ingredients: What the key is the hash of.
        build: Writes the artifact's files into the empty folder that it is given, and returns the facts.
        address: For an artifact whose key is its content and not its ingredients: the key of what `build` wrote.
            The store remembers which ingredients led to it.
        confirm: Whether an artifact found in the store still holds outside of it, for instance in the registry.
    """

    kind: str
    ingredients: Ingredients
    build: Callable[[Path], Facts] = field(repr=False)
    address: Callable[[Path], str] | None = field(default=None, repr=False)
    confirm: Callable[[Ref], bool] | None = field(default=None, repr=False)

    @cached_property
    def key(self) -> str:
        """The hash of the ingredients."""
        return compute_key({"kind": self.kind, **self.ingredients})


def compose_ingredients(
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    code: Iterable[str],
    libraries: Iterable[str] = (),
) -> Ingredients:
    """Put together what a key is the hash of.

    Args:
        config: The recipe's sections in canonical form, by section name (`Section.key_fields()`).
        inputs: Keys or digests of what goes in, by name.
        code: The modules that shape the result; all they import counts too.
        libraries: Distributions whose version shapes the result.
    """
    return {
        "config": dict(config),
        "inputs": dict(inputs),
        "code": code_identity(code),
        "libraries": {name: _library_version(name) for name in libraries},
    }


def describe_difference(before: Ingredients, now: Ingredients) -> list[str]:
    """What differs between two sets of ingredients, one phrase a difference, as a person would say it."""
    phrases = []
    for group in sorted({*before, *now}):
        old, new = _flatten(before.get(group, {})), _flatten(now.get(group, {}))
        differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if group == "code" and differing:
            phrases.append(f"code changed: {', '.join(differing)}")
        elif group == "inputs":
            phrases += [f"{name} changed" for name in differing]
        else:
            phrases += [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in differing]
    return phrases


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


@lru_cache(maxsize=256)
def _library_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
