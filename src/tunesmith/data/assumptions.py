"""What is assumed about a source because the recipe does not say it: printed and recorded, never silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from tunesmith.data.delimited import find_delimiter, find_quoting, has_header
from tunesmith.data.files import SourceFile
from tunesmith.data.query import is_ordered
from tunesmith.data.reader_options import OPTION_FORMATS, ReaderOptions
from tunesmith.data.sources import Source, SqlSource

DELIMITER_NAMES = {",": "a comma", "\t": "a tab"}


def describe_assumptions(source: Source, files: Sequence[SourceFile]) -> list[str]:
    """What is assumed about the files of a source, one phrase each.

    Args:
        source: The source.
        files: Its files, all of one format.

    Example:
        >>> describe_assumptions(source, files)  # doctest: +SKIP
        ['format csv, by the extension .csv', 'encoding utf-8', 'a comma between fields', ...]
    """
    if isinstance(source, SqlSource):
        order = "rows in the order of the query; ties in its ORDER BY may change places"
        return [order if is_ordered(source.sql.query) else "rows sorted by their values: the query has no ORDER BY"]
    return list(_describe(source, files[0]))


def _describe(options: ReaderOptions, file: SourceFile) -> Iterator[str]:
    if options.format is None:
        extension = "".join(PurePath(file.place).suffixes[-2 if file.compression else -1 :])
        yield f"format {file.format}, by the extension {extension}"
    if file.format in OPTION_FORMATS["encoding"] and "encoding" not in options.model_fields_set:
        yield "encoding utf-8"
    if file.format in ("csv", "tsv"):
        yield from _describe_delimited(options, file)
    if file.format == "conll" and options.delimiter is None:
        yield "a tab between fields"
    if file.format == "text" and options.unit is None:
        yield "a row is a line"


def _describe_delimited(options: ReaderOptions, file: SourceFile) -> Iterator[str]:
    if options.delimiter is None:
        yield f"{DELIMITER_NAMES[find_delimiter(file, options)]} between fields"
    if options.quoting is None:
        standard = find_quoting(file, options) == "standard"
        yield "double quotes enclose fields" if standard else "double quotes are plain text"
    if options.header is None:
        yield "line 1 names the columns" if has_header(options) else "no header line, for columns are given"
    if "null_values" not in options.model_fields_set:
        yield "no field stands for null"
