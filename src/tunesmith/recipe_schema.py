"""The recipe's JSON schema, asked in words: what a place may hold, which names it knows, which is the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tunesmith.recipe_tree import Place, Step

Rules = Mapping[str, Any]
"""One node of the JSON schema."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NOUNS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
}


@dataclass(frozen=True)
class Location:
    """Where one of pydantic's errors lies, in the recipe and in the schema.

    Attributes:
        place: The place in the recipe, without pydantic's names of union members.
        rules: What may stand there; None for a key that is not known.
        parent: What may stand one level up.
        union: The nearest union of unlike things on the way, such as a word or a list; None where there is none.
        union_rules: What may stand at that union.
    """

    place: Place
    rules: Rules | None
    parent: Rules
    union: Place | None = None
    union_rules: Rules | None = None


class RecipeSchema:
    """The JSON schema of a recipe."""

    def __init__(self, document: Rules) -> None:
        self.document = document

    def locate(self, steps: Sequence[Step]) -> Location:
        """Follow the `loc` of a pydantic error, which names the member after each union that it passes."""
        location = Location((), self.document, self.document)
        for step in steps:
            rules = location.rules or {}
            branches = self.branches(rules)
            if len(branches) > 1 and location.union != location.place:
                member = self._find_member(rules, str(step))
                found = member if member is not None else rules
                location = Location(location.place, found, rules, location.place, rules)
                continue
            place = (*location.place, step)
            location = Location(place, self._step(rules, step), rules, location.union, location.union_rules)
        return location

    def branches(self, rules: Rules) -> list[Rules]:
        """What may stand there: one node, or the members of a union without null."""
        rules = self._resolve(rules)
        members = [self._resolve(member) for member in rules.get("anyOf") or rules.get("oneOf") or [rules]]
        return [member for member in members if member.get("type") != "null"]

    def names(self, rules: Rules) -> list[str]:
        """The keys that are known there; for a union of one-key mappings, the keys to choose from."""
        return [name for branch in self.branches(rules) for name in branch.get("properties", {})]

    def words(self, rules: Rules) -> list[str]:
        """The words that may stand there, where a union has words and one-key mappings."""
        return [str(word) for branch in self.branches(rules) for word in constants(branch)]

    def heads(self, rules: Rules) -> list[str]:
        """The first key of each mapping that may stand there: what a union of mappings is chosen by."""
        heads = [next(iter(branch["properties"])) for branch in self.branches(rules) if branch.get("properties")]
        return list(dict.fromkeys(heads))

    def describe(self, rules: Rules) -> str:
        """What may stand there, as a phrase such as "a whole number of at least 1"."""
        rules = self._resolve(rules)
        if "anyOf" in rules or "oneOf" in rules:
            return self._describe_union(rules)
        if "const" in rules or "enum" in rules:
            return join_or(repr(value) for value in rules.get("enum", [rules.get("const")]))
        if rules.get("type") == "array":
            return self._describe_list(rules)
        if "properties" in rules:
            return f"a section with the keys {', '.join(rules['properties'])}"
        return (_NOUNS.get(rules.get("type", ""), "a value") + _describe_limits(rules)).strip()

    def find_elsewhere(self, name: str) -> str | None:
        """The dotted place of a key in another section, for a key that is in the wrong one."""
        for section, rules in self._resolve(self.document)["properties"].items():
            if name in self.names(rules):
                return f"{section}.{name}"
        return None

    def find_owner(self, rules: Rules, name: str) -> str | None:
        """Which member of a union that is chosen by a key's value knows a name."""
        mapping = self._resolve(rules).get("discriminator", {}).get("mapping", {})
        return next((value for value, ref in mapping.items() if name in self.names({"$ref": ref})), None)

    def _describe_union(self, rules: Rules) -> str:
        phrases = [self.describe(branch) for branch in self.branches(rules) if not branch.get("properties")]
        heads = self.heads(rules)
        if len(heads) > 1:
            phrases.append(f"a mapping with {join_or(heads)}")
        else:
            phrases += [self.describe(branch) for branch in self.branches(rules) if branch.get("properties")]
        return " or ".join(dict.fromkeys(phrases))

    def _describe_list(self, rules: Rules) -> str:
        items = self.describe(rules.get("items", {}))
        items = {"text": "texts"}.get(items, f"values, each {items}")
        minimum = rules.get("minItems", 0)
        return f"a list of {items}" if minimum < 1 else f"a list of {items}, at least {minimum}"

    def _resolve(self, rules: Rules) -> Rules:
        while "$ref" in rules:
            rules = self.document["$defs"][rules["$ref"].rpartition("/")[2]]
        return rules

    def _step(self, rules: Rules, step: Step) -> Rules | None:
        for branch in self.branches(rules):
            if isinstance(step, int) and "items" in branch:
                return self._resolve(branch["items"])
            if step in branch.get("properties", {}):
                return self._resolve(branch["properties"][step])
            if isinstance(branch.get("additionalProperties"), Mapping):
                return self._resolve(branch["additionalProperties"])
        return None

    def _find_member(self, rules: Rules, tag: str) -> Rules | None:
        mapping = self._resolve(rules).get("discriminator", {}).get("mapping", {})
        if tag in mapping:
            return self._resolve({"$ref": mapping[tag]})
        for branch in self.branches(rules):
            if branch.get("title") == tag or tag in branch.get("properties", {}):
                return branch
            if branch.get("type") == "array" and tag.startswith(("tuple", "list")):
                return branch
        return None


def constants(rules: Rules) -> list[Any]:
    """The values that one node allows, where it names them."""
    return list(rules.get("enum", [rules["const"]] if "const" in rules else []))


def join_or(words: Iterable[str]) -> str:
    """Words as a choice.

    Example:
        >>> join_or(["a", "b", "c"])
        'a, b or c'
    """
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def find_nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: one with all of it as whole words, one spelled alike, or one with it inside.

    Example:
        >>> find_nearest("batch-size", ["batching", "per_device_train_batch_size"])
        'per_device_train_batch_size'
    """
    wanted, known = name.lower().replace("-", "_"), list(names)
    whole = [other for other in known if "_" in wanted and f"_{wanted}_" in f"_{other}_"]
    near = whole or get_close_matches(wanted, known, n=1)
    if near:
        return near[0]
    return next((other for other in known if len(wanted) >= 4 and (wanted in other or other in wanted)), None)


def _describe_limits(rules: Rules) -> str:
    if "pattern" in rules:
        return f" that matches {rules['pattern']}"
    if "maxLength" in rules and rules["maxLength"] == rules.get("minLength"):
        return f" of {rules['maxLength']} character" + ("" if rules["maxLength"] == 1 else "s")
    if "minLength" in rules:
        return " that is not empty"
    if "minimum" in rules and "maximum" in rules:
        return f" from {_number(rules['minimum'])} to {_number(rules['maximum'])}"
    words = {"exclusiveMinimum": "above", "minimum": "of at least", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {_number(rules[limit])}" for limit, word in words.items() if limit in rules]
    return " " + " and ".join(limits)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
