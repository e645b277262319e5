from __future__ import annotations

import io

from rich.console import Console

from tunesmith.training.progress import describe, open_display
from tunesmith.training.reporter import Progress

HALF = Progress(
    phase="training",
    step=50,
    num_steps=100,
    epoch=0.5,
    num_epochs=1,
    loss=0.25,
    first_step=40,
    num_examples=320,
    seconds=4,
)


def test_what_is_left_is_reckoned_from_this_attempt_s_speed():
    assert describe(HALF) == "epoch 0.5/1, loss 0.2500, 80.0 examples/s, 0:20 left"
    assert describe(HALF.model_copy(update={"num_steps": 20_050})).endswith("2:13:20 left")


def test_the_start_is_not_silent():
    assert describe(None) == "starting the training process"
    assert describe(Progress()) == "loading the model"


def test_without_a_terminal_there_is_a_line_now_and_then():
    output = io.StringIO()
    with open_display(Console(file=output, width=200)) as display:
        for _ in range(5):
            display.show(HALF)
    assert output.getvalue().splitlines() == [f"training: step 50/100, {describe(HALF)}"]


def test_on_a_terminal_there_is_a_bar():
    output = io.StringIO()
    with open_display(Console(file=output, width=200, force_terminal=True)) as display:
        display.show(None)
        display.show(HALF)
        display.say("stopping")
    assert "50/100" in output.getvalue()
    assert "80.0 examples/s" in output.getvalue()
    assert "stopping" in output.getvalue()
