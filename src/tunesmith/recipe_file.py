"""A recipe's text as a tree of values that know their line.

YAML 1.2, read event by event, so that nothing is guessed: `5e-5` is a number, `no` is a text, a key given twice is
seen, and all mistakes are collected before anyone gives up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from tunesmith.errors import Mistake
from tunesmith.recipe_tree import MAX_SHOWN_CHARACTERS, Node, Place, Scalar, describe_value, dotted, put

MAX_FILE_BYTES = 1024 * 1024
"""A recipe is written by hand; anything larger is another file, given by accident."""
MAX_DEPTH = 20
"""The deepest place of a recipe is six levels down."""
MAX_OTHER_TABS = 100
"""Tabs outside of the indentation that are read as spaces; each costs a reading of the file."""
MAX_VALUES = 20_000
"""Scalars, lists and mappings; enough for a label set of thousands."""

_STR_TAG = "tag:yaml.org,2002:str"
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def read_recipe_text(raw: bytes) -> tuple[Node | None, list[Mistake]]:
    """Read a recipe.

    Args:
        raw: The file's bytes.

    Returns:
        The tree, or None where the text is no YAML mapping; and the mistakes found so far.
    """
    if len(raw) > MAX_FILE_BYTES:
        return None, [Mistake(None, "", f"has more than {MAX_FILE_BYTES:,} bytes; this is no recipe")]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Mistake(line, "", f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8")]
    root, mistakes = _parse(text)
    if root is None or isinstance(root.value, dict):
        return root, mistakes
    if root.value is None:
        return None, [*mistakes, Mistake(1, "", "is empty; `tunesmith init KIND FILE` writes a recipe to start from")]
    message = f"holds {describe_value(root)} at the top; a recipe is a mapping, `name: ...` first"
    return None, [*mistakes, Mistake(root.line, "", message)]


def apply_override(root: Node, override: str) -> Mistake | None:
    """Put the value of `a.b=c` into the tree, in place.

    Args:
        root: The recipe's tree.
        override: A dotted place, `=`, and a value in YAML; `data.sources.0` is the first of a list.

    Returns:
        The mistake, where the override cannot be used.
    """
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not all(name.split(".")):
        return Mistake(None, f"--set {override}", "must be PLACE=VALUE, such as train.num_epochs=2")
    value, mistakes = _parse(text)
    if mistakes:
        return replace(mistakes[0], line=None, place=f"--set {name}")
    assert value is not None
    for _, node in value.walk():
        node.line, node.is_override = None, True
    problem = put(root, name.split("."), value)
    return None if problem is None else Mistake(None, f"--set {name}", problem)


def _parse(text: str) -> tuple[Node | None, list[Mistake]]:
    """The tree of a YAML text; tabs in the indentation are reported, and read as spaces."""
    reader = _Reader(text)
    root = reader.read()
    if root is not None or "\t" not in text:
        return root, reader.mistakes
    lines = text.split("\n")
    width = min((_indentation(line) for line in lines if _indentation(line)), default=2)
    tabs = [number for number, line in enumerate(lines, 1) if _has_tab_indentation(line)]
    text = "\n".join(_with_spaces(line, width) for line in lines)
    for _ in range(MAX_OTHER_TABS):
        reader = _Reader(text)
        root = reader.read()
        if root is not None or text[reader.broken_at : reader.broken_at + 1] != "\t":
            break
        # YAML allows this tab, between a key and its value or before a comment; the parser does not.
        text = f"{text[: reader.broken_at]} {text[reader.broken_at + 1 :]}"
    return root, [*_refuse_tabs(tabs), *reader.mistakes]


def _refuse_tabs(numbers: list[int]) -> list[Mistake]:
    if not numbers:
        return []
    others = f" ({len(numbers)} lines are, down to line {numbers[-1]})" if len(numbers) > 1 else ""
    return [Mistake(numbers[0], "", f"is indented with a tab{others}; use spaces")]


def _has_tab_indentation(line: str) -> bool:
    content = line.lstrip()
    return "\t" in line[: len(line) - len(content)] and content != "" and not content.startswith("#")


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" ")) if line.strip() and not line.lstrip(" ").startswith("\t") else 0


def _with_spaces(line: str, width: int) -> str:
    content = line.lstrip()
    return line[: len(line) - len(content)].replace("\t", " " * width) + content


class _Reader:
    """Builds the tree of one YAML document from the parser's events, and notes what is wrong.

    Attributes:
        mistakes: What was found so far.
        broken_at: Index of the character at which the text is no YAML; its length where it is.
    """

    def __init__(self, text: str) -> None:
        self.mistakes: list[Mistake] = []
        self.broken_at = len(text)
        self._text = text
        self._num_values = 0
        self._events: Iterator[Event] = iter(())

    def read(self) -> Node | None:
        """The tree; None where the text is broken. An empty text gives a null."""
        self._events = YAML(typ="safe", pure=True).parse(self._text)
        try:
            return self._read_document()
        except (YAMLError, RecursionError) as error:
            self.broken_at = getattr(getattr(error, "problem_mark", None), "index", len(self._text))
            self.mistakes.append(_explain_syntax(error, self._text))
            return None

    def _read_document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent) and root is not None:
                self._note(event, "", "a second document begins here; a recipe is one document, without another `---`")
                break
            if isinstance(event, NodeEvent):
                root = self._build(event, ())
            elif isinstance(event, StreamStartEvent):
                continue
        return root if root is not None else Node(None, 1)

    def _build(self, event: Event, place: Place) -> Node:
        line = _line(event)
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise MarkedYAMLError(problem=f"more than {MAX_VALUES:,} values", problem_mark=event.start_mark)
        if len(place) > MAX_DEPTH:
            raise MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark)
        if isinstance(event, AliasEvent):
            return self._refuse(event, place, f"*{event.anchor} is a YAML alias; write the value out instead")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _STR_TAG):
            self._note(event, dotted(place), f"{tag} is a YAML tag; only plain values are read")
        if isinstance(event, MappingStartEvent):
            return self._build_mapping(line, place)
        if isinstance(event, SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(item := next(self._events), SequenceEndEvent):
                items.append(self._build(item, (*place, len(items))))
            return Node(items, line)
        assert isinstance(event, ScalarEvent)
        return self._build_scalar(event, place)

    def _build_mapping(self, line: int, place: Place) -> Node:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = event.value if isinstance(event, ScalarEvent) else None
            if key is None:
                self._build(event, (*place, "?"))
                self._refuse(event, place, "has a list, a mapping or an alias as a key; a key is a word")
            num_mistakes = len(self.mistakes)
            node = self._build(next(self._events), (*place, "?" if key is None else key))
            node.line = _line(event)
            if key == "<<":
                del self.mistakes[num_mistakes:]
                self._refuse(event, place, "<< is a YAML merge key; write the values out instead")
            elif key is not None:
                self._add(entries, key, node, place)
        return Node(entries, line)

    def _add(self, entries: dict[str, Node], key: str, node: Node, place: Place) -> None:
        earlier = entries.get(key)
        if earlier is None:
            entries[key] = node
            return
        message = f"given twice, first on line {earlier.line}; keep one"
        self.mistakes.append(Mistake(node.line, dotted((*place, key)), message))
        if isinstance(earlier.value, dict) and isinstance(node.value, dict):
            # Going on with both halves of a section given twice, so that no key in them seems to be missing.
            earlier.value.update({name: child for name, child in node.value.items() if name not in earlier.value})

    def _build_scalar(self, event: ScalarEvent, place: Place) -> Node:
        line, style = _line(event), event.style
        if style or event.tag:
            quote = style if style in ("'", '"') else "'"
            return Node(event.value, line, f"{quote}{event.value}{quote}")
        try:
            return Node(_resolve_plain(event.value), line, event.value)
        except ValueError:
            return self._refuse(event, place, f"{event.value[:MAX_SHOWN_CHARACTERS]} is not a number that can be used")

    def _refuse(self, event: Event, place: Place, message: str) -> Node:
        self._note(event, dotted(place), message)
        return Node(None, _line(event), is_reported=True)

    def _note(self, event: Event, place: str, message: str) -> None:
        self.mistakes.append(Mistake(_line(event), place, message))


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _resolve_plain(text: str) -> Scalar:
    """A plain scalar's value by YAML 1.2's core schema.

    Raises:
        ValueError: It is a number without a finite value.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0 if text.startswith(("0o", "0x")) else 10)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
        raise ValueError(text)
    return float(text) if _FLOAT.fullmatch(text) else text


_HINTS = {
    "mapping values are not allowed here": (
        "a ':' stands where none can; check the indentation of this line and the one above, or quote a value that "
        "holds ': '"
    ),
    "could not find expected ':'": "the line before has no ':' after its key",
    "cannot start any token": "a value cannot begin with this character; put the value in quotes",
    "expected <block end>": "the indentation does not match the lines above",
    "unknown escape": "in double quotes a \\ begins an escape; write \\\\, or use single quotes",
    "expected ',' or": "a list or a mapping in brackets lacks a comma, or is never closed",
    "found unexpected end of stream": "a quote or a bracket is opened and never closed",
}


def _explain_syntax(error: YAMLError | RecursionError, text: str) -> Mistake:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Mistake(line, "", f"holds the control character {error.character!r}; remove it")
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or "nested too deeply")
    start = getattr(error, "context_mark", None)
    if not isinstance(mark, StreamMark):
        return Mistake(None, "", f"cannot be read: {problem}")
    hint = next((hint for phrase, hint in _HINTS.items() if phrase in problem), "")
    if problem == "found unexpected end of stream" and isinstance(start, StreamMark):
        mark = start  # where the quote is opened, and not the end of the file
    where = f"column {mark.column + 1}: cannot be read: "
    return Mistake(mark.line + 1, "", where + (f"{hint} ({problem})" if hint else problem))
