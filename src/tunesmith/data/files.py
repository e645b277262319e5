"""Which files a recipe names, and how their bytes become text."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from tunesmith.data.sources import EXTENSIONS, OPTION_FORMATS, DataConfig, Format, find_format
from tunesmith.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class SourceFile:
    """One file that rows are read from.

    Attributes:
        path: Where it lies.
        format: How it is read.
        name: Its name, told apart from others of the same name by a number; in keys, where folders do not matter.
        label: What messages call it: its name, or its path where several files have the name.
    """

    path: Path
    format: Format
    name: str
    label: str


def find_files(config: DataConfig) -> tuple[SourceFile, ...]:
    """The files that a recipe names, in the order in which they are read.

    Raises:
        DataError: A file is missing, a folder, named twice or of an unknown format; a glob matches nothing.
    """
    paths = [path for pattern in config.files for path in _expand(pattern)]
    twice = [path for path, times in Counter(path.resolve() for path in paths).items() if times > 1]
    if twice:
        raise DataError(f"{twice[0]} is named twice in data.files, so its rows would count twice. Name it once.")
    formats = [config.format or _detect_format(path) for path in paths]
    if len(set(formats)) > 1:
        other = next(index for index, format in enumerate(formats) if format != formats[0])
        raise DataError(
            f"data.files mixes formats: {paths[0]} is {formats[0]}, {paths[other]} is {formats[other]}. "
            "Name files of one format, or convert some."
        )
    _check_options(config, formats[0])
    labels = Counter(path.name for path in paths)
    names = _tell_apart([path.name for path in paths])
    return tuple(
        SourceFile(path, format, name, path.name if labels[path.name] == 1 else str(path))
        for path, format, name in zip(paths, formats, names, strict=True)
    )


def read_bytes(file: SourceFile) -> bytes:
    """All bytes of a file, decompressed.

    Raises:
        DataError: The file cannot be read, or its gzip data is damaged.
    """
    with _open(file) as stream:
        return stream.read()


@contextmanager
def open_lines(file: SourceFile, encoding: str) -> Iterator[Iterator[str]]:
    """The lines of a text file with their line ends, without a byte-order mark.

    Raises:
        DataError: In the body, where the file cannot be read or is not in this encoding.
    """
    with _open(file) as stream, io.TextIOWrapper(stream, encoding=encoding, newline="") as lines:
        try:
            # A chain and no generator: a million lines then cost no Python code.
            yield chain([line.removeprefix("\ufeff") for line in islice(lines, 1)], lines)
        except UnicodeError:
            _refuse_encoding(file, encoding)


def refuse_nul(place: str) -> NoReturn:
    """Refuse text with a NUL byte.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"{place}: a NUL byte in the text. Either the file is damaged: write it again; or it is in another encoding: "
        "set data.encoding, for instance to utf-16-le."
    )


def find_nearest(name: str, present: Sequence[str]) -> str:
    """A hint at the nearest of the names that there are; empty when none is near.

    Example:
        >>> find_nearest("lable", ["text", "label"])
        ' Did you mean label?'
    """
    near = get_close_matches(name, present, n=1)
    return f" Did you mean {near[0]}?" if near else ""


@contextmanager
def _open(file: SourceFile) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed; what goes wrong while they are read becomes a DataError."""
    try:
        with file.path.open("rb") as raw:
            if file.path.suffix.lower() == ".gz":
                with gzip.open(raw) as stream:
                    yield cast(BinaryIO, stream)
            else:
                yield raw
    except EOFError:
        raise DataError(
            f"{file.path}: the gzip data ends early, after {file.path.stat().st_size:,} compressed bytes: the file is "
            "truncated. Fetch or write it again; `gzip -t` tells whether it is whole."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file.path}: not valid gzip data ({error}). Fetch or write the file again, or take .gz off its name if "
            "it is not compressed."
        ) from None
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}.") from None


def _refuse_encoding(file: SourceFile, encoding: str) -> NoReturn:
    """Say where the first byte is that is not in this encoding: found in a second reading."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, offset = 1, 0
    with _open(file) as stream:
        start = stream.peek(2)[:2] if isinstance(stream, io.BufferedReader) else b""
        while chunk := stream.read(1 << 16):
            offset += len(chunk)
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as error:
                good = error.object[: error.start].decode(encoding, errors="ignore")
                place = f"{file.label}:{line + good.count(chr(10))}"
                at, byte = offset - len(error.object) + error.start, error.object[error.start]
                raise DataError(
                    f"{place}: byte {at:,} of the file (0x{byte:02x}) is not {encoding}. {_suggest_encoding(start)}"
                ) from None
            except UnicodeError:
                break
    raise DataError(
        f"{file.label}: the text is not {encoding}, or ends in the middle of a character. Set data.encoding."
    )


def _suggest_encoding(start: bytes) -> str:
    if start == GZIP_MAGIC:
        return "The file is gzip data: add .gz to its name."
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "The file starts with the mark of utf-16: set data.encoding to utf-16."
    return "Set data.encoding to what the file was written in, for instance cp1252 or latin-1, or write it as utf-8."


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern)
    if has_magic(pattern) and not path.exists():
        names = sorted(glob(pattern, recursive=True))  # noqa: PTH207  Path.glob would match hidden files, too
        found = [Path(name) for name in names if Path(name).is_file()]
        if not found:
            raise DataError(f"{pattern}: matches no file.{_list_folder(path.parent)} Correct data.files.")
        return found
    if path.is_dir():
        raise DataError(f"{path} is a folder. Name its files in data.files, for instance {path / '*.csv'}.")
    if not path.exists():
        present = _names_in(path.parent)
        hint = find_nearest(path.name, present) or _list_folder(path.parent)
        raise DataError(f"{path}: no such file.{hint} Correct data.files; it is relative to the recipe's folder.")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Save what it yields in a file, and name that in data.files.")
    return [path]


def _check_options(config: DataConfig, format: Format) -> None:
    """The recipe is checked where it names the format; a glob without an extension shows it only here."""
    for option, formats in OPTION_FORMATS.items():
        if option in config.model_fields_set and getattr(config, option) is not None and format not in formats:
            raise DataError(
                f"data.{option} has no effect on {format} files, only on {' and '.join(formats)}. Remove it."
            )


def _detect_format(path: Path) -> Format:
    format = find_format(path.name)
    if format is None:
        raise DataError(
            f"{path}: its name does not say its format (known: {', '.join(EXTENSIONS)}, each also with .gz). "
            "Set data.format."
        )
    return format


def _tell_apart(names: Sequence[str]) -> list[str]:
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
