from __future__ import annotations

from tunesmith.training.observer import GuardedObserver


def test_an_observer_that_fails_is_told_nothing_more_and_stops_nothing(caplog):
    calls = []

    class Failing:
        def started(self, candidate_key, facts):
            calls.append("started")

        def rows(self, rows):
            calls.append("rows")
            raise ConnectionError("the server is away")

        def ended(self, status):
            calls.append("ended")

    observer = GuardedObserver(Failing())
    observer.started("key", {})
    observer.rows([{"step": 1}])
    observer.rows([{"step": 2}])
    observer.ended("FINISHED")
    assert calls == ["started", "rows"]
    assert "ConnectionError: the server is away" in caplog.text
