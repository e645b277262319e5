"""A recipe as a tree of values that know their line, and the overrides put into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_SHOWN_CHARACTERS = 60

Scalar = str | int | float | bool | None
Step = str | int
Place = tuple[Step, ...]


@dataclass
class Node:
    """A value of the recipe.

    Attributes:
        value: A scalar, or the nodes of a mapping or a list.
        line: Line of its key, or of itself in a list, from 1; None when it came from an override.
        text: How it is written, for messages.
        is_override: Whether it came from `--set`.
        is_reported: Whether a mistake was found in it, so that nothing more is said of it.
    """

    value: Scalar | dict[str, Node] | list[Node]
    line: int | None
    text: str = ""
    is_override: bool = False
    is_reported: bool = False

    def plain(self) -> object:
        """The value as JSON."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, step: Step) -> Node | None:
        """The node one step down, or None."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            return self.value[step]
        return None

    def walk(self, place: Place = ()) -> Iterator[tuple[Place, Node]]:
        """This node and all below it, each with its place."""
        yield place, self
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.walk((*place, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.walk((*place, index))


def dotted(place: Place) -> str:
    """A place as people write it.

    Example:
        >>> dotted(("data", "sources", 0))
        'data.sources.0'
    """
    return ".".join(str(step) for step in place)


def describe_value(node: Node) -> str:
    """What a node is, in words: the value as written for a scalar, its shape for the rest.

    Example:
        >>> describe_value(Node([Node("a", 1), Node("b", 2)], 1))
        'a list of 2'
    """
    if isinstance(node.value, dict):
        return f"a mapping with the keys {', '.join(node.value)}" if node.value else "an empty mapping"
    if isinstance(node.value, list):
        return f"a list of {len(node.value)}" if node.value else "an empty list"
    if node.value is None:
        return "null" if node.text else "nothing"
    text = " ".join(node.text.split()) or repr(node.value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."


def put(root: Node, names: Sequence[str], value: Node) -> str | None:
    """Put a value into the tree, in place; sections on the way that are not there are made.

    Args:
        root: The recipe's tree.
        names: Keys, and indices of lists; an index may be one past the end.
        value: What to put there.

    Returns:
        What is in the way, or None.
    """
    node = root
    for depth, name in enumerate(names):
        above = dotted(tuple(names[:depth]))
        next_node = value if depth == len(names) - 1 else node.child(int(name) if name.isdecimal() else name)
        if next_node is None:
            next_node = Node(None, None, is_override=True)
        if node.value is None:
            node.value = {}
        if isinstance(node.value, dict):
            node.value[name] = next_node
        elif not isinstance(node.value, list):
            return f"{above} is {describe_value(node)} and has no {name!r}"
        elif not name.isdecimal() or int(name) > len(node.value):
            return f"{above} is {describe_value(node)}; {name!r} is no index of it"
        else:
            node.value[int(name) : int(name) + 1] = [next_node]
        node = next_node
    return None
