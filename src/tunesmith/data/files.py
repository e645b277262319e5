"""Which files a recipe names, and what is known of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NoReturn

from tunesmith.data.nearest import find_nearest
from tunesmith.data.reader_options import (
    COMPRESSIONS,
    EXTENSIONS,
    Compression,
    Format,
    ReaderOptions,
    find_compression,
    find_format,
    find_idle_options,
)
from tunesmith.errors import DataError
from tunesmith.store.keys import file_sha256

ROW_FORMATS = ("json", "parquet", "arrow")
"""Formats in which a row has a number of its own, and no line."""

ESCAPED = re.compile(r"\[([*?[])\]")
"""A character of a name that is no pattern, as `glob.escape` writes it."""


@dataclass(frozen=True)
class Remote:
    """Where a file lies of which there need not be a copy here.

    Attributes:
        uri: `s3://bucket/key`.
        etag: What the server calls its content.
        size_bytes: Its size.
        version: The version id, where the bucket keeps versions.
        s3: The section that says which server, as JSON values.
        room_bytes: How many bytes of copies may lie here.
    """

    uri: str
    etag: str
    size_bytes: int
    version: str
    s3: dict[str, Any]
    room_bytes: int


@dataclass(frozen=True)
class SourceFile:
    """One file that rows are read from.

    Attributes:
        path: Where it lies.
        format: How it is read.
        name: Its name, told apart from others of the same name by a number; folders do not matter.
        label: What messages about a row call it: its name, or its place where several files have the name.
        place: Where it comes from: its path, or an address.
        compression: How its bytes are compressed.
        source: Index of its source in the recipe.
        counts_rows: Whether messages count its rows, and not its lines.
        sha256: Of its bytes when it was found, as 64 hex digits; None where nobody asked.
        size_bytes: Its size when it was found.
        mtime_ns: When it was last changed before it was found.
        remote: Where it lies when `path` is only the place for a copy.
    """

    path: Path
    format: Format
    name: str
    label: str
    place: str
    compression: Compression | None = None
    source: int = 0
    counts_rows: bool = False
    sha256: str | None = None
    size_bytes: int = 0
    mtime_ns: int = 0
    remote: Remote | None = None

    @property
    def prefix(self) -> str:
        """How messages name it in front of a number, such as `reviews.csv:` or `reviews.parquet row `."""
        return f"{self.label} row " if self.counts_rows else f"{self.label}:"

    def as_json(self) -> dict[str, Any]:
        """The file as JSON values."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SourceFile:
        """The file that `as_json` gave."""
        remote = values.get("remote")
        return cls(**{**values, "path": Path(values["path"]), "remote": None if remote is None else Remote(**remote)})


def describe_file(path: Path, options: ReaderOptions, place: str | None = None) -> SourceFile:
    """What a file's name tells of it.

    Args:
        path: The file.
        options: How it is read.
        place: Where it really comes from, when that is not `path`.

    Raises:
        DataError: Its format is not known, or an option has no effect on it.
    """
    place = place or str(path)
    name = Path(place).name
    format = options.format or find_format(name)
    if format is None:
        raise DataError(
            f"{place}: its name does not say its format (known: {', '.join(EXTENSIONS)}, each also with "
            f"{', '.join(COMPRESSIONS)}). Set the source's format."
        )
    for option, mistake in find_idle_options(options, format).items():
        raise DataError(f"{place}: the source's {option} {mistake}. Remove it.")
    if format == "conll" and options.columns is None:
        raise DataError(f"{place}: conll files do not name their columns. Set the source's columns: [tokens, tags].")
    compression = find_compression(name)
    counts_rows = format in ROW_FORMATS or (format == "text" and options.unit == "document")
    return SourceFile(path, format, name, place, place, compression, counts_rows=counts_rows)


def check_unchanged(file: SourceFile) -> SourceFile:
    """Refuse a file whose bytes are others than when it was found; gives it as it is now.

    Raises:
        DataError: It has changed, or is gone.
    """
    if file.remote is not None:
        return file  # what is copied is verified
    try:
        now = file.path.stat()
        is_same = (now.st_size, now.st_mtime_ns) == (file.size_bytes, file.mtime_ns)
        sha256 = file.sha256 if is_same or file.sha256 is None else file_sha256(file.path)
    except OSError as error:
        raise DataError(f"{file.place}: cannot be read: {error.strerror or error}. Check that it is there.") from None
    if sha256 != file.sha256:
        raise DataError(
            f"{file.place}: the file has changed since the stream was described: its sha256 was {file.sha256} and is "
            f"{sha256}. Bring the file back as it was to continue, or begin anew with what it is now."
        )
    return replace(file, size_bytes=now.st_size, mtime_ns=now.st_mtime_ns)


def tell_apart(files: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Files with names and labels that differ.

    Raises:
        DataError: Two are the same file.
    """
    twice = [path for path, times in Counter(file.path.resolve() for file in files).items() if times > 1]
    if twice:
        label = next(file.label for file in files if file.path.resolve() == twice[0])
        raise DataError(f"{label} is named twice in data.sources, so its rows would count twice. Name it once.")
    times = Counter(file.name for file in files)
    names = _number([file.name for file in files])
    return tuple(
        replace(file, name=name, label=file.name if times[file.name] == 1 else file.label)
        for file, name in zip(files, names, strict=True)
    )


def check_one_format(files: Sequence[SourceFile]) -> None:
    """Refuse a source whose files have different formats.

    Raises:
        DataError: Names two of them.
    """
    for file in files:
        if file.format != files[0].format:
            raise DataError(
                f"one source mixes formats: {files[0].label} is {files[0].format}, {file.label} is {file.format}. "
                "Give each format a source of its own, or convert some files."
            )


def find_local_files(patterns: Sequence[str], options: ReaderOptions) -> list[SourceFile]:
    """The files on this machine that a source names, in the order in which they are read.

    Raises:
        DataError: A file is missing, a folder or of an unknown format; a glob matches nothing.
    """
    return [describe_file(path, options) for pattern in patterns for path in _expand(pattern)]


def refuse_nul(place: str) -> NoReturn:
    """Refuse text with a NUL byte.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"{place}: a NUL byte in the text. Either the file is damaged: write it again; or it is in another encoding: "
        "set the source's encoding, for instance to utf-16-le."
    )


def _expand(pattern: str) -> list[Path]:
    path = Path(ESCAPED.sub(r"\1", pattern))
    if has_magic(ESCAPED.sub("", pattern)) and not path.exists():
        names = sorted(glob(pattern, recursive=True))  # noqa: PTH207  Path.glob would match hidden files, too
        found = [Path(name) for name in names if Path(name).is_file()]
        if not found:
            raise DataError(f"{path}: matches no file.{_list_folder(path.parent)} Correct the source's files.")
        return found
    if path.is_dir():
        raise DataError(f"{path} is a folder. Name its files, for instance {path / '*.csv'}.")
    if not path.exists():
        present = _names_in(path.parent)
        hint = find_nearest(path.name, present) or _list_folder(path.parent)
        raise DataError(
            f"{path}: no such file.{hint} Correct the source's files; they are relative to the recipe's folder."
        )
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Save what it yields in a file, and name that.")
    return [path]


def _number(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _list_folder(folder: Path) -> str:
    if not folder.is_dir():
        return f" There is no folder {folder}."
    names = _names_in(folder)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f" The folder holds {shown}." if names else " The folder is empty."
