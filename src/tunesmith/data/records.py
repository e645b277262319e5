"""Reads json and jsonl files: lists of objects, objects of rows, or one object a line."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

import pyarrow as pa

from tunesmith.data.blocks import BLOCK_ROWS, MAX_COLUMNS, Block, refuse_columns
from tunesmith.data.columns import from_values, shorten
from tunesmith.data.contents import decode_contents, refuse_encoding
from tunesmith.data.files import SourceFile, refuse_nul
from tunesmith.data.nearest import find_nearest
from tunesmith.data.reader_options import KeyedRows, ReaderOptions
from tunesmith.errors import DataError

EXCERPT = 30
"""Characters shown before and after the place of a mistake."""

MAX_JSON_BYTES = 1 << 30
"""Largest json file: all of it must be in memory to be read."""

MAX_DEPTH = 100
"""Deepest nesting of lists and objects."""


def parse_jsonl(text: str, line: int, file: SourceFile) -> list[Block]:
    """The rows of lines with one JSON object each; blank lines are none.

    Args:
        text: Lines of the file.
        line: Number of the first one.
        file: The file.

    Raises:
        DataError: A line is not a JSON object; the first such line is named.
    """
    blocks = []
    numbered = enumerate(io.StringIO(text, newline=""), start=line)
    while block := list(islice(numbered, BLOCK_ROWS)):
        written = [(number, content) for number, content in block if not content.isspace()]
        numbers = [number for number, _ in written]
        rows = [_parse_object(content.rstrip(), file, number) for number, content in written]
        blocks.append(Block(_build_columns(rows, file, numbers), numbers, num_blank=len(block) - len(written)))
    return blocks


def read_json(file: SourceFile, options: ReaderOptions) -> Iterator[Block]:
    """The rows of a file that holds one JSON value.

    They are a list of objects, at the top or below `field`; or, with `keyed`, the members of an object there.

    Raises:
        DataError: The file is not JSON, or there are no such rows at the place.
    """
    text = _read_text(file, options.encoding)
    if not text.strip():
        raise DataError(f"{file.place}: the file is empty. Write its rows, or take it out of data.sources.")
    value, place = _follow_field(_parse(text.rstrip(), file, 1), file, options.field)
    del text
    rows = _list_rows(value, place, file) if options.keyed is None else _key_rows(value, place, file, options.keyed)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        numbers = range(start + 1, start + len(block) + 1)
        yield Block(_build_columns(block, file, numbers), numbers)


def _read_text(file: SourceFile, encoding: str) -> str:
    parts, num_bytes = [], 0
    for chunk in decode_contents(file, encoding):
        parts.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > MAX_JSON_BYTES:
            raise DataError(
                f"{file.place}: a json file of more than {MAX_JSON_BYTES:,} bytes; it would have to be in memory as a "
                "whole. Write its rows as jsonl, one object a line."
            )
    try:
        return b"".join(parts).decode()
    except UnicodeError:
        refuse_encoding(file, encoding)


def _parse(text: str, file: SourceFile, line: int) -> object:
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        _refuse_json(file, line, error)
    except RecursionError:
        _refuse_depth(f"{file.label}:{line}")
    except ValueError as error:
        raise DataError(f"{file.label}:{line}: {error}: {shorten(text.strip())}. Correct the value.") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        _refuse_depth(f"{file.label}:{line}")
    return value


def _parse_object(text: str, file: SourceFile, line: int) -> dict[str, Any]:
    value = _parse(text, file, line)
    if not isinstance(value, dict):
        _refuse_row(f"{file.label}:{line}", value)
    return value


def _is_deep(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        members = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in members for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _refuse_depth(place: str) -> NoReturn:
    raise DataError(f"{place}: the JSON is nested too deeply: more than {MAX_DEPTH} levels. Flatten it.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large for a decimal number")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_parse_float)


def _refuse_json(file: SourceFile, line: int, error: json.JSONDecodeError) -> NoReturn:
    place = f"{file.label}:{line + error.lineno - 1}:{error.colno}"
    if error.doc[error.pos : error.pos + 1] == "\0":
        refuse_nul(place)
    if file.format == "json" and error.msg == "Extra data":
        raise DataError(
            f"{place}: a second JSON value follows the first. Is it one a line? Then set the source's format to jsonl."
        )
    excerpt = error.doc[max(0, error.pos - EXCERPT) : error.pos + EXCERPT].strip()
    end = " (the line ends here: is the file cut off?)" if error.pos >= len(error.doc.rstrip()) else ""
    raise DataError(f"{place}: not JSON: {error.msg}{end}, at {shorten(excerpt, 2 * EXCERPT)}. Correct the line.")


def _follow_field(value: object, file: SourceFile, field: str | None) -> tuple[object, str]:
    place = "the file"
    for name in field.split(".") if field else ():
        if not isinstance(value, dict):
            raise DataError(
                f"{file.label}: {place} holds {_describe(value)}, so no key {name!r}. Correct the source's field."
            )
        if name not in value:
            hint = find_nearest(name, list(value))
            keys = ", ".join(list(value)[:10]) + (", ..." if len(value) > 10 else "")
            raise DataError(
                f"{file.label}: {place} has no key {name!r} (keys present: {keys or 'none'}).{hint} "
                "Correct the source's field."
            )
        value, place = value[name], repr(name)
    return value, place


def _list_rows(value: object, place: str, file: SourceFile) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        lists = [name for name, item in value.items() if isinstance(item, list)] if isinstance(value, dict) else []
        cure = f"for instance to {lists[0]}" if lists else "to the key of the list"
        keyed = "; or its keyed, if each member is a row" if isinstance(value, dict) else ""
        raise DataError(
            f"{file.label}: {place} holds {_describe(value)}, not a list of objects. Set the source's field, {cure}"
            f"{keyed}."
        )
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            _refuse_row(f"{file.prefix}{number}", row)
    return value


def _key_rows(value: object, place: str, file: SourceFile, keyed: KeyedRows) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        raise DataError(
            f"{file.label}: {place} holds {_describe(value)}, not an object of rows. Remove the source's keyed, or set "
            "its field to the key of the object."
        )
    members = enumerate(value.items(), start=1)
    return [_key_row(f"{file.prefix}{number}", key, member, keyed) for number, (key, member) in members]


def _key_row(place: str, key: str, member: object, keyed: KeyedRows) -> dict[str, Any]:
    if isinstance(member, dict):
        taken = next((name for name in (keyed.key, keyed.value) if name in member), None)
        if taken is not None:
            raise DataError(
                f"{place}: the object of {key!r} has a member {taken!r} of its own: {shorten(member)}. Give the "
                "source's keyed another name for that column."
            )
        return {keyed.key: key, **member}
    if keyed.value is None:
        raise DataError(
            f"{place}: {key!r} holds {_describe(member)}, not an object. Set the source's keyed.value to the column "
            "that it belongs in."
        )
    return {keyed.key: key, keyed.value: member}


def _refuse_row(place: str, row: object) -> NoReturn:
    raise DataError(
        f'{place}: a row must be a JSON object such as {{"text": "..."}}, not {shorten(row)}. Correct the row.'
    )


def _build_columns(rows: Sequence[Mapping[str, Any]], file: SourceFile, numbers: Sequence[int]) -> dict[str, pa.Array]:
    names = dict.fromkeys(name for row in rows for name in row)
    if len(names) > MAX_COLUMNS:
        refuse_columns(f"{file.prefix}{numbers[0]}", len(names))
    return {name: from_values([row.get(name) for row in rows]) for name in names}


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = ", ".join(list(value)[:10])
        return f"an object with the keys {keys}" if value else "an empty object"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else f"{shorten(value)}"
