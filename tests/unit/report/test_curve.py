"""The loss curve as a picture."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.report.curve import draw_loss_png, draw_loss_svg, read_metric_rows


def make_rows(num_steps: int, *, validation_every: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        epoch = step / validation_every
        rows.append({"step": step, "epoch": epoch, "metrics": {"train/loss": 3 / step, "train/learning_rate": 1e-5}})
        if step % validation_every == 0:
            rows.append({"step": step, "epoch": epoch, "metrics": {"validation/loss": 3.5 / step}})
    return rows


def test_the_picture_is_a_png_of_640_pixels() -> None:
    picture = draw_loss_png(make_rows(100, validation_every=50))
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) == 640
    assert len(picture) < 100 * 1024


def test_the_axes_say_what_they_show_and_in_which_unit() -> None:
    svg = draw_loss_svg(make_rows(100, validation_every=50))
    for text in ("optimizer step", "epoch", "cross-entropy loss (nats)", "train (mean of 5 points)", "validation"):
        assert f">{text}</text>" in svg


def test_the_last_validation_loss_is_written_beside_its_point() -> None:
    assert ">0.035</text>" in draw_loss_svg(make_rows(100, validation_every=50))


def test_equal_rows_give_an_equal_svg() -> None:
    rows = make_rows(60, validation_every=20)
    assert draw_loss_svg(rows) == draw_loss_svg(rows)


@pytest.mark.parametrize("rows", [[], [{"step": 1, "epoch": 0.1, "metrics": {"train/learning_rate": 0.1}}]])
def test_a_training_without_a_loss_says_so(rows: list[dict[str, Any]]) -> None:
    assert "no loss was logged" in draw_loss_svg(rows)


def test_a_single_point_and_a_loss_that_is_not_finite_can_be_drawn() -> None:
    rows = [{"step": 1, "epoch": 1.0, "metrics": {"train/loss": math.nan}}]
    assert draw_loss_png(rows).startswith(b"\x89PNG")


def test_pyplot_with_its_global_state_stays_out() -> None:
    draw_loss_png([])
    assert "matplotlib.pyplot" not in sys.modules


def test_rows_are_read_in_the_order_in_which_they_were_logged(tmp_path: Path) -> None:
    rows = make_rows(3, validation_every=3)
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_metric_rows(path) == rows
