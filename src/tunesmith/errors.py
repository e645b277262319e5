"""The exception tree. What a user can cause is a `UserError`; each class carries the exit code of the command line.

TunesmithError            4  a stage failed
|-- UserError             2  a mistake in the recipe, the data or the call
|   |-- RecipeError          all the mistakes of one recipe, each with its line
|   |-- DataError            a file, a row or a value that cannot be used
|   |-- StoreError           a store that cannot be used as it is configured
|   |-- ModelError           a base model, an adapter or a registered model that cannot be used
|   `-- CallError            an argument of a command that cannot be used
|-- FullDiskError         4  there is no room for what a stage makes
|-- TrainingError         4  the training process ended without a result
|   `-- OutOfMemoryError     more tokens at once than a device has room for, and the step cannot begin again
`-- Preempted             3  training stopped at a checkpoint and can be continued
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


class TunesmithError(Exception):
    """Something that Tunesmith understands went wrong; the message says what to do."""

    exit_code = 4


class UserError(TunesmithError, ValueError):
    """A mistake in the recipe, the data or the call."""

    exit_code = 2


def raise_all(checks: Iterable[Callable[[], None]]) -> None:
    """Make checks of which each may refuse something, and tell all that is refused at once.

    Raises:
        UserError: The only one, or one with the messages of all, each on a line of its own.
    """
    errors = list[UserError]()
    for check in checks:
        try:
            check()
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserError("\n".join(map(str, errors)))


@dataclass(frozen=True)
class Mistake:
    """One mistake in a recipe.

    Attributes:
        line: Line in the recipe's file, from 1; None when it came from an override.
        place: Dotted path of the value, such as `train.num_epochs`; empty for the file as a whole.
        message: What is wrong, which values are allowed and the nearest valid name.
    """

    line: int | None
    place: str
    message: str


class RecipeError(UserError):
    """All the mistakes of one recipe."""

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        lines = []
        for mistake in self.mistakes:
            where = self.path if mistake.line is None else f"{self.path}:{mistake.line}"
            place = f"{mistake.place}: " if mistake.place else ""
            lines.append(f"{where}: {place}{mistake.message}")
        return lines


class DataError(UserError):
    """A file, a row or a value that cannot be used."""


class StoreError(UserError):
    """A store that cannot be used as it is configured."""


class ModelError(UserError):
    """A base model, an adapter or a registered model that cannot be used."""


class CallError(UserError):
    """An argument of a command that cannot be used."""


class FullDiskError(TunesmithError):
    """There is no room for what a stage makes; trying again makes none."""


class TrainingError(TunesmithError):
    """The training process ended without a result."""


class OutOfMemoryError(TrainingError):
    """More tokens at once than a device has room for; the training has to go on with `max_tokens` at most."""

    def __init__(self, message: str, max_tokens: int) -> None:
        super().__init__(message)
        self.max_tokens = max_tokens


class Preempted(TunesmithError):
    """Training stopped at a checkpoint; the next run continues from there."""

    exit_code = 3
