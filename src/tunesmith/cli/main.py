"""The `tunesmith` command. A command's module is imported when it is called, so that `--help` answers at once."""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from tunesmith import __version__
from tunesmith.cli.lazy_group import LazyGroup
from tunesmith.cli.output import Output, plain_logging
from tunesmith.environment import fill_environment
from tunesmith.home import Home

COMMANDS = {
    "demo": "Run the whole pipeline on sample data.",
    "init": "Write a commented recipe that runs.",
    "plan": "Check everything and train nothing: what would run, and why.",
    "run": "Run a recipe, from the data to a registered model.",
    "data": "Look at a recipe's rows: show, profile, diff, quarantine.",
    "predict": "Score a file with a model.",
    "export": "Write a model in another format, with its parity report.",
    "chat": "Talk to a generation model.",
    "models": "The registered models: their versions, and how a champion came to be.",
    "promote": "Make a version the champion by hand.",
    "approve": "Say yes to a promotion that a run asks about.",
    "decline": "Say no to it.",
    "rollback": "Go back to the champion before this one.",
    "gate": "Look at decisions: replay.",
    "doctor": "Check this machine.",
    "schema": "Print the recipe's JSON schema.",
}
"""Each command lies in the module of its name; its help on the group's page stands here."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    modules="tunesmith.cli.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 2 a mistake in the recipe, the data or the call; 3 stopped, `run` goes on from there; "
    "4 a stage failed; 130 interrupted.",
)
@click.version_option(__version__, prog_name="tunesmith")
@click.pass_context
def group(context: click.Context) -> None:
    """Tunesmith keeps fine-tuned Hugging Face models fresh: one recipe, from data to a registered model."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def script() -> int:
    """Run the command line as a process, which leaves at once when all is done.

    Python would then take its modules apart, piece by piece, which takes seconds for torch and MLflow.
    """
    codes: list[int] = []
    atexit.register(_leave, codes)  # the first to be registered, the last to be called
    codes.append(main())
    return codes[0]


def _leave(codes: Sequence[int]) -> None:
    if codes:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `tunesmith`; by default what this process was given.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    fill_environment(os.environ)
    _write_any_character(sys.stdout)
    output = Output(sys.stdout)
    with plain_logging():
        try:
            result: Any = group.main(list(arguments), "tunesmith", standalone_mode=False, obj=output)
        except (KeyboardInterrupt, click.Abort):
            output.is_json = output.is_json or "--json" in arguments
            return output.interrupt()
        except Exception as error:  # the edge: whatever happens, people see a line and not a traceback
            from tunesmith.store.disk import put_in_words

            output.is_json = output.is_json or "--json" in arguments
            home = _find_home()
            return output.fail(put_in_words(error, home.folder), home.log_folder)
    return result if isinstance(result, int) else 0


def _write_any_character(stream: TextIO) -> None:
    """A character that the terminal's encoding lacks is written as an escape, as on stderr, and ends no command."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def _find_home() -> Home:
    try:
        return Home.locate(os.environ, Path.cwd())
    except FileNotFoundError:  # somebody has deleted the working directory
        import tempfile

        return Home(Path(tempfile.gettempdir()) / "tunesmith")
