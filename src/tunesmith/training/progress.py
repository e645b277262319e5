"""How far training is, for a person: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tunesmith.training.reporter import Progress

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 10.0
"""Between two plain lines."""

STARTING = "starting the training process"


class Display(Protocol):
    """Shows progress to a person."""

    def show(self, progress: Progress | None) -> None:
        """Show where training is; None: it has not begun."""

    def say(self, text: str) -> None:
        """Say one thing out of turn."""


@contextmanager
def open_display(console: Console | None = None) -> Iterator[Display]:
    """A bar where stderr is a terminal, else plain lines.

    Args:
        console: Where to show it; by default on stderr.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _PlainLines(console)
        return
    bar = _Bar(console)
    with bar.live:
        yield bar


def describe(progress: Progress | None) -> str:
    """The state of a training in a few words.

    Example:
        >>> describe(Progress(phase="training", step=5, num_steps=20, epoch=0.25, num_epochs=1, seconds=2))
        'epoch 0.25/1, 0.0 examples/s, 0:06 left'
    """
    if progress is None:
        return STARTING
    if progress.phase == "loading":
        return "loading the model"
    parts = [f"epoch {progress.epoch:.3g}" + (f"/{progress.num_epochs}" if progress.num_epochs else "")]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.seconds > 0:
        parts.append(f"{progress.num_examples / progress.seconds:.1f} examples/s")
        parts.append(f"{_duration(_seconds_left(progress))} left")
    if progress.phase != "training":
        parts.append(progress.phase)
    return ", ".join(parts)


def _seconds_left(progress: Progress) -> float:
    done = max(1, progress.step - progress.first_step)
    return (progress.num_steps - progress.step) * progress.seconds / done


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _PlainLines:
    """A line at the start, then one every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, progress: Progress | None) -> None:
        """See `Display`."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PLAIN_SECONDS
        step = f" step {progress.step}/{progress.num_steps}," if progress and progress.num_steps else ""
        self.say(f"training:{step} {describe(progress)}")

    def say(self, text: str) -> None:
        """See `Display`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bar:
    """A bar that is drawn in place."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self.live = Progress(
            SpinnerColumn(),
            TextColumn("training"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[state]}", markup=False),
            console=console,
            transient=True,
        )
        self._task = self.live.add_task("training", total=0, state=STARTING)

    def show(self, progress: Progress | None) -> None:
        """See `Display`."""
        if progress is not None:
            self.live.update(self._task, completed=progress.step, total=progress.num_steps, state=describe(progress))

    def say(self, text: str) -> None:
        """See `Display`."""
        self.live.console.print(text, markup=False, highlight=False)
