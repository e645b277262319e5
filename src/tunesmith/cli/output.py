"""The one place that prints. People read text on stdout and progress on stderr; `--json` gives one document on stdout.

A command is written like this:

    @click.command(short_help="...")
    @json_option
    @pass_output
    def command(output: Output) -> None:
        output.show({"answer": 42}, "the answer is 42")
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click

from tunesmith.errors import RecipeError, TunesmithError

FAILED = 4
INTERRUPTED = 130


@dataclass
class Output:
    """What a command prints to.

    Attributes:
        stdout: The real standard output; what libraries print goes to stderr where a document is asked for.
        is_json: Whether one JSON document is asked for.
    """

    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    is_json: bool = False

    def show(self, document: object, text: str) -> None:
        """Print a command's result, once: the document with `--json`, else the text.

        Args:
            document: JSON values; a path or a tuple in it is written as JSON has it, a number that is none as null.
            text: The same for people; may have many lines.
        """
        click.echo(self._write_json(document) if self.is_json else text, file=self.stdout)

    def _write_json(self, document: object) -> str:
        import json  # here and below: what `--help` does not need, it does not wait for

        plain = json.loads(json.dumps(document, default=_as_json), parse_constant=lambda _: None)
        # What UTF-8 does not encode, half a surrogate pair, stdout writes as JSON would.
        return json.dumps(plain, indent=2, ensure_ascii=not _is_utf8(self.stdout), allow_nan=False)

    def stream(self, text: str) -> None:
        """Print a part of a result as soon as it is there; nothing where one document is asked for."""
        if not self.is_json:
            click.echo(text, file=self.stdout, nl=False)

    def note(self, text: str) -> None:
        """Tell people on stderr what goes on; never part of the result."""
        click.echo(text, err=True)

    def fail(self, error: Exception, log_folder: Path) -> int:
        """Report an error in words that say what to do; an unexpected one is kept as a traceback in a file.

        Args:
            error: What ended the command.
            log_folder: Where the traceback of an unexpected error goes.

        Returns:
            The exit code.
        """
        if isinstance(error, (TunesmithError, click.ClickException)):
            code, message = error.exit_code, _message(error)
        else:
            code, message = FAILED, _unexpected_message(error, log_folder)
        if self.is_json:
            self.show({"error": _error_document(error, code, message)}, "")
        is_list = isinstance(error, RecipeError)
        self.note(message if is_list else f"error: {message}")
        return code

    def interrupt(self) -> int:
        """Say that somebody pressed Ctrl-C.

        Returns:
            The exit code.
        """
        if self.is_json:
            self.show({"error": {"type": "Interrupted", "message": "interrupted", "exit_code": INTERRUPTED}}, "")
        self.note("interrupted")
        return INTERRUPTED


def _is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")


def _as_json(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _message(error: TunesmithError | click.ClickException) -> str:
    if not isinstance(error, click.ClickException):
        return str(error)
    context = getattr(error, "ctx", None)
    hint = f" Try '{context.command_path} --help'." if context is not None else ""
    return f"{error.format_message().rstrip()}{hint}"


def _unexpected_message(error: Exception, log_folder: Path) -> str:
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{summary[:300]} (unexpected; the traceback is in {_write_traceback(error, log_folder)})"


def _write_traceback(error: Exception, log_folder: Path) -> Path:
    import tempfile
    import time
    import traceback

    lines = "".join(traceback.format_exception(error))
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{sys.argv}\n{sys.version}\n\n{lines}"
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}.log"
    for folder in (log_folder, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return folder / name
    return Path("no file: neither the home nor the temporary folder can be written")


def _error_document(error: Exception, code: int, message: str) -> dict[str, Any]:
    document: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": code}
    if isinstance(error, RecipeError):
        document["recipe"] = error.path
        document["mistakes"] = [vars(mistake) for mistake in error.mistakes]
    return document


def _choose_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    output = context.ensure_object(Output)
    if value and not output.is_json:
        output.is_json = True
        context.with_resource(redirect_stdout(sys.stderr))
    return value


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_choose_json,
    help="Print one JSON document on stdout, and nothing else there.",
)
"""Every command has it."""

pass_output = click.make_pass_decorator(Output, ensure=True)
"""Gives a command its `Output` as the first argument."""


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


class _ToStderr(logging.Handler):
    """Looks stderr up at each line, so that it goes where stderr goes by then."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@contextmanager
def plain_logging() -> Iterator[None]:
    """Show our own log lines on stderr as plain sentences, and nobody else's; silence Python's warnings."""
    ours, handler = logging.getLogger("tunesmith"), _ToStderr()
    handler.setFormatter(_Plain())
    before = ours.handlers, ours.level, ours.propagate, logging.lastResort, logging.raiseExceptions
    ours.handlers, ours.level, ours.propagate = [handler], logging.INFO, False
    # Without a handler at the root, Python prints other libraries' warnings through its handler of last resort.
    logging.lastResort = logging.NullHandler()
    logging.raiseExceptions = False  # nor do handlers say what they could not do, such as Prefect's without its server
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            yield
        finally:
            ours.handlers, ours.level, ours.propagate, logging.lastResort, logging.raiseExceptions = before
