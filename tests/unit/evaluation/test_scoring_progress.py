"""The progress bar."""

from __future__ import annotations

import pytest

from tunesmith.evaluation import progress
from tunesmith.evaluation.progress import track


def test_every_item_comes_once_and_short_work_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), "testing")) == [0, 1, 2, 3, 4]
    assert capfd.readouterr() == ("", "")


def test_long_work_shows_a_bar_on_stderr_and_nothing_on_stdout(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SHOW_AFTER_SECONDS", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    assert list(track(range(5), "testing")) == [0, 1, 2, 3, 4]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "testing" in captured.err
