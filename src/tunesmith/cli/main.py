"""The `tunesmith` command. A command's module is imported when it is called, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from tunesmith import __version__
from tunesmith.cli.output import INTERRUPTED, Output, plain_logging
from tunesmith.home import Home
from tunesmith.tracking.environment import MLFLOW_ENVIRONMENT

COMMANDS = {
    "demo": "Run the whole pipeline on sample data.",
    "init": "Write a commented recipe that runs.",
    "plan": "Check everything and train nothing: what would run, and why.",
    "run": "Run a recipe, from the data to a registered model.",
    "predict": "Score a file with a model.",
    "models": "List the registered models and their versions.",
    "doctor": "Check this machine.",
    "schema": "Print the recipe's JSON schema.",
}
"""Each command lies in the module of its name; its help on the group's page stands here."""


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one only to call it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tunesmith.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; an unknown one is refused with the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(COMMANDS)}."
            raise click.UsageError(f"No command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `tunesmith`; by default what this process was given.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    output = Output(sys.stdout)
    with plain_logging():
        try:
            result: Any = group.main(list(arguments), "tunesmith", standalone_mode=False, obj=output)
        except (KeyboardInterrupt, click.Abort):
            output.note("interrupted")
            return INTERRUPTED
        except Exception as error:  # the edge: whatever happens, people see a line and not a traceback
            output.is_json = output.is_json or "--json" in arguments
            return output.fail(error, Home.locate(os.environ, Path.cwd()).log_folder)
    return result if isinstance(result, int) else 0
