"""A progress bar on stderr for work that takes a while; silence for work that does not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import TypeVar

SHOW_AFTER_SECONDS = 2.0

Item = TypeVar("Item")


def track(items: Collection[Item], title: str) -> Iterator[Item]:
    """The items one by one, with a bar once they have taken two seconds and stderr is a terminal.

    Args:
        items: What is worked on; the bar counts them.
        title: What is being done, such as `evaluating`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar = progress.add_task(title, total=len(items))
    start = time.monotonic()
    with ExitStack() as stack:
        is_shown = False
        for item in items:
            if not is_shown and time.monotonic() - start > SHOW_AFTER_SECONDS:
                stack.enter_context(progress)
                is_shown = True
            yield item
            progress.advance(bar)
