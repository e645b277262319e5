"""Who is told, while a candidate is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Observer(Protocol):
    """Is told of a training, from the process that started it.

    A continued training tells all of its rows again, so that an observer that was away misses none.
    """

    def started(self, candidate_key: str, facts: Mapping[str, Any]) -> None:
        """Training of a candidate begins or goes on."""

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Metrics were logged: `step`, `epoch` and `metrics` of each row, in order."""

    def ended(self, status: EndStatus) -> None:
        """This attempt is over; one that was `KILLED` can be continued."""


class GuardedObserver:
    """An observer that cannot stop training: after its first failure it is told nothing more."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    def started(self, candidate_key: str, facts: Mapping[str, Any]) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.started(candidate_key, facts))

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Observer`."""
        if rows:
            self._tell(lambda observer: observer.rows(rows))

    def ended(self, status: EndStatus) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.ended(status))

    def _tell(self, message: Callable[[Observer], None]) -> None:
        if self._observer is None:
            return
        try:
            message(self._observer)
        except Exception as error:  # whatever a tracking server does, hours of training are worth more
            self._observer = None
            log.warning("train: the observer failed and is told nothing more: %s: %s", type(error).__name__, error)
