"""The rows of an SQL query, streamed into a file of JSON lines: SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import math
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

from tunesmith.data.query import is_ordered
from tunesmith.data.sources import VARIABLE_PATTERN, SqlOptions
from tunesmith.errors import DataError, TunesmithError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

log = logging.getLogger(__name__)

BATCH_ROWS = 5_000
"""Rows that the server sends at a time."""

SORT_BYTES = 1 << 26
"""Text of rows that is sorted in memory; beyond, sorted runs go to the disk and are merged."""

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}

MISTAKES_OF_CONNECTING = ("password", "authentication", "does not exist", "no pg_hba.conf", "role ", "unable to open")
"""What a server says when connecting again will not help."""


def run_query(sql: SqlOptions, folder: Path, environ: Mapping[str, str]) -> tuple[Path, str]:
    """Write the rows of a query to a file, one JSON object a line.

    They are in the query's own order, or sorted by their text where it has none: the same rows give the same file.
    The transaction only reads, and sees one state of the database.

    Args:
        sql: The database and the query.
        folder: Where the file is kept; its name is its content.
        environ: Where the database's URL is looked up.

    Returns:
        The file and its sha256.

    Raises:
        DataError: The database or the query cannot be used, or there are no rows.
        TunesmithError: The server cannot be reached, or went away.
    """
    engine, place = _open_engine(_find_url(sql, environ))
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{uuid.uuid4().hex}.part"
    digest, num_rows = hashlib.sha256(), 0
    log.info("fetch: asking %s", place)
    try:
        with ExitStack() as stack, aside.open("wb") as file:
            lines = _read_lines(stack.enter_context(_connect(engine, place)), sql.query, place)
            for line in lines if is_ordered(sql.query) else _sort(lines, stack):
                digest.update(line)
                file.write(line)
                num_rows += 1
        if not num_rows:
            raise DataError(f"{place}: the query gives no rows. Correct the source's sql.query.")
        path = folder / f"{digest.hexdigest()[:32]}.jsonl"
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
        engine.dispose()
    return path, digest.hexdigest()


def _find_url(sql: SqlOptions, environ: Mapping[str, str]) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    named = VARIABLE_PATTERN.fullmatch(sql.connection) is not None
    text = environ.get(sql.connection, "") if named else sql.connection
    if not text:
        raise DataError(
            f"the environment variable {sql.connection} is not set. It holds the database's URL, such as "
            "postgresql://user:password@host/database; set it, or correct the source's sql.connection."
        )
    where = f"the URL in {sql.connection}" if named else "the source's sql.connection"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DataError(f"{where} cannot be read. Write it like postgresql://user@host/database.") from None
    backend = url.get_backend_name()
    if backend not in DRIVERS:
        raise DataError(f"{where} starts with {backend}://; known are {' and '.join(DRIVERS)}. Write it like one.")
    return url.set(drivername=DRIVERS[backend])


def _open_engine(url: URL) -> tuple[Engine, str]:
    """An engine that opens no connection yet, and what messages call the database."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    place = f"sql {url.render_as_string(hide_password=True)}"
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if not path.is_file():
            raise DataError(f"{place}: there is no such database file. Correct the source's sql.connection.")
        url = url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    try:
        return create_engine(url, poolclass=NullPool), place
    except ModuleNotFoundError as error:
        raise DataError(
            f"{place}: the driver {error.name} is not installed. Run `pip install 'psycopg[binary]'`."
        ) from None


@contextmanager
def _connect(engine: Engine, place: str) -> Iterator[Connection]:
    """A connection whose transaction only reads and is rolled back."""
    from sqlalchemy.exc import DBAPIError

    try:
        connection = engine.connect()
    except DBAPIError as error:
        reason = _reason(error)
        if any(sign in reason for sign in MISTAKES_OF_CONNECTING):
            raise DataError(
                f"{place}: refused: {reason}. Check the user, the password and the database in the URL."
            ) from None
        raise TunesmithError(
            f"{place}: cannot connect: {reason}. Check that the server runs, and its host and port in the URL."
        ) from None
    options: dict[str, Any] = {"stream_results": True, "yield_per": BATCH_ROWS}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with connection:
        yield connection.execution_options(**options)
        connection.rollback()


def _read_lines(connection: Connection, query: str, place: str) -> Iterator[bytes]:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    try:
        # A colon is the query's own; sqlalchemy would take a word behind it for a parameter.
        with closing(connection.execute(text(query.replace(":", r"\:")))) as result:
            names = _check_names(list(result.keys()), place)
            rows = chain.from_iterable(result.partitions(BATCH_ROWS))
            for number, row in enumerate(rows, start=1):
                values = {name: _plain(value, name, number, place) for name, value in zip(names, row, strict=True)}
                yield json.dumps(values, ensure_ascii=False).encode() + b"\n"
    except DBAPIError as error:
        if error.connection_invalidated:
            raise TunesmithError(f"{place}: the connection was lost: {_reason(error)}. Try again.") from None
        raise DataError(
            f"{place}: the query fails: {_reason(error)}. Correct the source's sql.query, or the user's rights."
        ) from None


def _check_names(names: list[str], place: str) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: the query gives two columns {twice!r}. Name each with AS.")
    return names


def _plain(value: object, name: str, number: int, place: str) -> object:
    """A value of a database as one of JSON."""
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise DataError(f"{place}: row {number}, column {name!r}: {value} is no number. Leave the row out.")
    if isinstance(value, list):
        return [_plain(item, name, number, place) for item in value]
    if value is None or isinstance(value, (str, int, float, dict)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (bytes, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeError:
            pass
    raise DataError(
        f"{place}: row {number}, column {name!r} holds {type(value).__name__}, which is neither text nor a number. "
        "Turn it into text in the query: CAST(... AS text)."
    )


def _sort(lines: Iterable[bytes], stack: ExitStack) -> Iterator[bytes]:
    """Lines in the order of their bytes; what does not fit into memory goes to the disk."""
    runs: list[Iterable[bytes]] = []
    waiting, num_bytes = list[bytes](), 0
    for line in lines:
        waiting.append(line)
        num_bytes += len(line)
        if num_bytes >= SORT_BYTES:
            runs.append(_write_run(sorted(waiting), stack))
            waiting, num_bytes = [], 0
    yield from heapq.merge(*runs, sorted(waiting))


def _write_run(lines: Sequence[bytes], stack: ExitStack) -> Iterable[bytes]:
    file = stack.enter_context(tempfile.TemporaryFile(prefix="tunesmith-"))  # noqa: SIM115  the stack closes it
    file.writelines(lines)
    file.seek(0)
    return file


def _reason(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join((str(original).strip() or type(original).__name__).splitlines()[:2]).rstrip(".")
