"""Groups of commands that import a command only to call it, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one only to call it.

    Args:
        table: The commands, in the order in which a new user meets them, each with its line on the group's page.
        modules: Where they lie: the module's name up to the command's.
        settings: What click.Group takes.
    """

    def __init__(self, *, table: Mapping[str, str], modules: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.table = table
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        command: click.Command = import_module(f"{self.modules}{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; an unknown one is refused with the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in self.table:
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], self.table, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(self.table)}."
            raise click.UsageError(f"No command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))
