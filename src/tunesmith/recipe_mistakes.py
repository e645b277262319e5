"""Pydantic's errors as mistakes in a recipe: one clear line each, where it is written, and what to write instead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic_core import ErrorDetails

from tunesmith.errors import Mistake
from tunesmith.recipe_schema import Location, RecipeSchema, Rules, constants, find_nearest, join_or
from tunesmith.recipe_tree import Node, Place, Scalar, describe_value, dotted

_OUT_OF_RANGE = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "too_short",
    "too_long",
    "string_too_short",
    "string_too_long",
    "string_pattern_mismatch",
    "finite_number",
}
_TYPE_NOUNS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a decimal number",
    bool: "a true/false value",
}
_WORDS_FOR_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True)
class _Found:
    error: ErrorDetails
    location: Location


def explain(errors: Sequence[ErrorDetails], root: Node, schema: RecipeSchema) -> list[Mistake]:
    """Say what each error means in the recipe.

    Args:
        errors: Pydantic's errors over the recipe's values.
        root: The recipe's tree, for the lines and the values as written.
        schema: What may stand where.

    Returns:
        One mistake a place; nothing for a place where a mistake is known already.
    """
    found = [_Found(error, schema.locate(error["loc"])) for error in errors]
    mistakes = []
    for item in _without_union_noise(_without_short_lists(found)):
        if not any(node.is_reported for node in _nodes_on_the_way(root, item.location.place)):
            place, message = _explain_one(item, root, schema)
            mistakes.append(mistake_at(root, place, message))
    return list(dict.fromkeys(mistakes))


def mistake_at(root: Node, place: Place, message: str) -> Mistake:
    """A mistake at a place, with the line of the nearest node that is really there."""
    nodes = list(_nodes_on_the_way(root, place))
    is_there = len(nodes) == len(place) + 1
    if is_there and nodes[-1].is_override:
        return Mistake(None, f"--set {dotted(place)}", message)
    line = next((node.line for node in reversed(nodes) if node.line is not None), None)
    return Mistake(line, dotted(place), message)


def _nodes_on_the_way(root: Node, place: Place) -> Iterable[Node]:
    node: Node | None = root
    for step in (*place, None):
        if node is None:
            return
        yield node
        node = None if step is None else node.child(step)


def _without_short_lists(found: Sequence[_Found]) -> list[_Found]:
    """A list in which an item is wrong counts as too short, too; only what is wrong in it is worth a line."""
    places = [item.location.place for item in found]
    return [
        item
        for item in found
        if item.error["type"] != "too_short" or not any(_is_below(place, item.location.place) for place in places)
    ]


def _is_below(place: Place, above: Place) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def _without_union_noise(found: Sequence[_Found]) -> Iterable[_Found]:
    """Of the errors that one union gives, one for each of its members, only those of the member that fits best."""
    unions: defaultdict[Place, list[_Found]] = defaultdict(list)
    for item in found:
        if item.location.union is None:
            yield item
        else:
            unions[item.location.union].append(item)
    for union, items in unions.items():
        deepest = max(len(item.location.place) for item in items)
        if deepest > len(union):
            yield from (item for item in items if len(item.location.place) > len(union))
        elif all(_is_plain(item.error) for item in items):
            rules = items[0].location.union_rules
            yield _Found(items[0].error, Location(union, rules, rules or {}))
        else:
            yield from items


def _is_plain(error: ErrorDetails) -> bool:
    return error["type"].endswith("_type") or error["type"] == "literal_error" or error["type"] in _OUT_OF_RANGE


def _explain_one(found: _Found, root: Node, schema: RecipeSchema) -> tuple[Place, str]:
    error, location = found.error, found.location
    kind = error["type"]
    if kind == "missing":
        about = (location.rules or {}).get("description", "")
        return location.place, f"missing{': ' + _first_sentence(about) if about else ''}"
    if kind == "extra_forbidden":
        return location.place, _explain_unknown(location, schema)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_choice(location, root, schema)
    if _is_plain(error) or kind == "int_from_float":
        node = list(_nodes_on_the_way(root, location.place))[-1]
        return location.place, _explain_value(node, kind, location.rules or {}, schema)
    return location.place, error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _explain_unknown(location: Location, schema: RecipeSchema) -> str:
    name = str(location.place[-1])
    names = schema.names(location.parent)
    union = location.union_rules or {}
    if location.union == location.place[:-1] and "discriminator" not in union and name in schema.names(union):
        return f"cannot stand beside {names[0]!r} in one item; give it an item of its own"
    nearest = find_nearest(name, names)
    if nearest is not None:
        return f"unknown key; did you mean {nearest!r}?"
    owner = schema.find_owner(union, name) if location.union == location.place[:-1] else None
    if owner is not None:
        return f"unknown key here; {owner} has it"
    elsewhere = schema.find_elsewhere(name)
    if elsewhere is not None:
        return f"unknown key here; did you mean {elsewhere!r}?"
    return f"unknown key; there are {', '.join(names)}"


def _explain_choice(location: Location, root: Node, schema: RecipeSchema) -> tuple[Place, str]:
    """A union that is chosen by the value of one key (`kind: ...`), or by the key itself (a transform)."""
    node = list(_nodes_on_the_way(root, location.place))[-1]
    rules = schema.branches(location.rules or {})
    chooser = (location.rules or {}).get("discriminator", {}).get("propertyName")
    if chooser is not None:
        place = (*location.place, chooser)
        choices = [str(value) for rule in rules for value in constants(rule["properties"][chooser])]
        chosen = node.child(chooser)
        if chosen is None:
            return place, f"missing; must be {join_or(map(repr, choices))}"
        return place, f"{describe_value(chosen)} is not known; {_choose(str(chosen.value), choices)}"
    words, heads = schema.words(location.rules or {}), schema.heads(location.rules or {})
    if isinstance(node.value, dict) and node.value:
        name = next(iter(node.value))
        if name in words:
            return (*location.place, name), f"takes nothing; write just the word: {name}"
        return (*location.place, name), f"unknown; {_choose(name, [*words, *heads])}"
    mapping = f"a mapping with one key: {join_or(heads)}"
    must_be = f"{join_or(map(repr, words))}, or {mapping}" if words else mapping
    return location.place, f"{describe_value(node)} cannot be used; must be {must_be}"


def _choose(name: str, choices: Sequence[str]) -> str:
    nearest = find_nearest(name, choices)
    hint = "" if nearest is None else f"; did you mean {nearest!r}?"
    return f"must be {join_or(map(repr, choices))}{hint}"


def _explain_value(node: Node, kind: str, rules: Rules, schema: RecipeSchema) -> str:
    shown = describe_value(node)
    must_be = f"must be {schema.describe(rules)}"
    if isinstance(node.value, (dict, list)) or node.value is None:
        return f"{'empty' if node.value is None and not node.text else shown}; {must_be}"
    if kind in _OUT_OF_RANGE:
        return f"{shown} {'is out of range' if not isinstance(node.value, str) else 'cannot be used'}; {must_be}"
    choices = [str(choice) for branch in schema.branches(rules) for choice in constants(branch)]
    if choices and isinstance(node.value, str):
        nearest = find_nearest(node.value, choices)
        return f"{shown} is not known; {must_be}" + ("" if nearest is None else f"; did you mean {nearest!r}?")
    hint = "" if choices else _hint(node, node.value, schema.branches(rules))
    return f"{shown} is {_TYPE_NOUNS[type(node.value)]}; {must_be}{hint}"


def _hint(node: Node, value: Scalar, branches: Sequence[Rules]) -> str:
    types = {branch.get("type") for branch in branches}
    if isinstance(value, str) and "boolean" in types and value.lower() in _WORDS_FOR_BOOLEANS:
        return f"; did you mean {_WORDS_FOR_BOOLEANS[value.lower()]}?"
    if isinstance(value, str) and types & {"integer", "number"} and node.text[:1] in ("'", '"') and _is_number(value):
        return "; remove the quotes"
    if not isinstance(value, str) and types == {"string"}:
        return f'; put it in quotes: "{node.text}"'
    if types == {"array"} and isinstance(value, str):
        return f"; write it as a list: [{node.text}]"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_sentence(text: str) -> str:
    sentence = " ".join(text.split()).split(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() else sentence
