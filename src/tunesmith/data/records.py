"""Reads json and jsonl files: lists of objects, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn

import pyarrow as pa

from tunesmith.data.blocks import BLOCK_ROWS, Block
from tunesmith.data.columns import from_values, shorten
from tunesmith.data.files import SourceFile, find_nearest, open_lines, refuse_nul
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError

EXCERPT = 30
"""Characters shown before and after the place of a mistake."""


def read_jsonl(file: SourceFile, config: DataConfig) -> Iterator[Block]:
    """The rows of a file with one JSON object a line.

    Raises:
        DataError: A line is not a JSON object.
    """
    with open_lines(file, config.encoding) as lines:
        numbered = enumerate(lines, start=1)
        while block := list(islice(numbered, BLOCK_ROWS)):
            written = [(number, line) for number, line in block if not line.isspace()]
            numbers = [number for number, _ in written]
            rows = [_parse(line.rstrip(), file, number) for number, line in written]
            _check_objects(rows, f"{file.label}:", numbers)
            yield Block(_build_columns(rows), numbers, num_blank=len(block) - len(written))


def read_json(file: SourceFile, config: DataConfig) -> Iterator[Block]:
    """The rows of a file that holds one JSON value: a list of objects, or an object with the list below `field`.

    Raises:
        DataError: The file is not JSON, or there is no list of objects at the place.
    """
    with open_lines(file, config.encoding) as lines:
        text = "".join(lines)
    if not text.strip():
        raise DataError(f"{file.path}: the file is empty. Write its rows, or take it out of data.files.")
    rows = _find_list(_parse(text.rstrip(), file, 1), file, config.field)
    _check_objects(rows, f"{file.label} row ", range(1, len(rows) + 1))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        yield Block(_build_columns(block), range(start + 1, start + len(block) + 1))


def _parse(text: str, file: SourceFile, line: int) -> object:
    try:
        value: object = _DECODER.decode(text)
        return value
    except json.JSONDecodeError as error:
        _refuse_json(file, line, error)
    except RecursionError:
        raise DataError(f"{file.label}:{line}: the JSON is nested too deeply to be read. Flatten it.") from None
    except ValueError as error:
        raise DataError(f"{file.label}:{line}: {error}: {shorten(text.strip())}. Correct the value.") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _refuse_json(file: SourceFile, line: int, error: json.JSONDecodeError) -> NoReturn:
    place = f"{file.label}:{line + error.lineno - 1}:{error.colno}"
    if error.doc[error.pos : error.pos + 1] == "\0":
        refuse_nul(place)
    if file.format == "json" and error.msg == "Extra data":
        raise DataError(
            f"{place}: a second JSON value follows the first. Is it one a line? Then set data.format: jsonl."
        )
    excerpt = error.doc[max(0, error.pos - EXCERPT) : error.pos + EXCERPT].strip()
    end = " (the line ends here: is the file cut off?)" if error.pos >= len(error.doc.rstrip()) else ""
    raise DataError(f"{place}: not JSON: {error.msg}{end}, at {shorten(excerpt, 2 * EXCERPT)}. Correct the line.")


def _find_list(value: object, file: SourceFile, field: str | None) -> list[Any]:
    place = "the file"
    for name in field.split(".") if field else ():
        if not isinstance(value, dict):
            raise DataError(f"{file.label}: {place} holds {_describe(value)}, so no key {name!r}. Correct data.field.")
        if name not in value:
            hint = find_nearest(name, list(value))
            raise DataError(
                f"{file.label}: {place} has no key {name!r} (keys present: {', '.join(value) or 'none'}).{hint} "
                "Correct data.field."
            )
        value, place = value[name], repr(name)
    if isinstance(value, list):
        return value
    lists = [name for name, item in value.items() if isinstance(item, list)] if isinstance(value, dict) else []
    cure = f"Set data.field, for instance to {lists[0]}." if lists else "Set data.field to the key of the list."
    raise DataError(f"{file.label}: {place} holds {_describe(value)}, not a list of objects. {cure}")


def _check_objects(rows: Sequence[Any], prefix: str, numbers: Sequence[int]) -> None:
    for number, row in zip(numbers, rows, strict=True):
        if not isinstance(row, dict):
            raise DataError(
                f'{prefix}{number}: a row must be a JSON object such as {{"text": "..."}}, not {shorten(row)}. '
                "Correct the row."
            )


def _build_columns(rows: Sequence[Any]) -> dict[str, pa.Array]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: from_values([row.get(name) for row in rows]) for name in names}


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = ", ".join(list(value)[:10])
        return f"an object with the keys {keys}" if value else "an empty object"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else f"{shorten(value)}"
