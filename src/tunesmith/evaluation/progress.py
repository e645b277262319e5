"""A progress bar on stderr for work that takes a while; silence for work that does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

SHOW_AFTER_SECONDS = 2.0

Item = TypeVar("Item")


def track(items: Collection[Item], title: str) -> Iterator[Item]:
    """The items one by one, with a bar once they have taken two seconds and stderr is a terminal.

    Args:
        items: What is worked on; the bar counts them.
        title: What is being done, such as `evaluating`.
    """
    with count_up(len(items), title) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def count_up(total: int, title: str) -> Iterator[Callable[[int], None]]:
    """A function that says how much more is done, shown as a bar after two seconds where stderr is a terminal.

    Args:
        total: What the bar counts up to.
        title: What is being done, such as `predicting`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar = progress.add_task(title, total=total)
    start = time.monotonic()
    with ExitStack() as stack:
        is_shown = False

        def advance(number: int) -> None:
            nonlocal is_shown
            progress.advance(bar, number)
            if not is_shown and time.monotonic() - start > SHOW_AFTER_SECONDS:
                stack.enter_context(progress)
                is_shown = True

        yield advance
