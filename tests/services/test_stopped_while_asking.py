"""`tunesmith run` stopped while a person is asked: the question stays, an answer counts, and no process is left."""

import time

import pytest
from test_crashes import finish, kill_tree, press_ctrl_c, start, terminate

from processes import processes_of
from projects import make_classification
from tunesmith.cli.main import main
from tunesmith.errors import TunesmithError
from tunesmith.recipe import Recipe
from tunesmith.tracking.approval import find_approval
from tunesmith.tracking.history import find_history

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


def is_asked(tracking) -> bool:
    if not tracking.database().exists():
        return False
    try:
        found = find_approval("reviews", 1, tracking)
    except TunesmithError:  # there is no such version yet
        return False
    return found is not None and found.is_open


@pytest.mark.parametrize(("disturb", "exit_code"), [(kill_tree, -9), (terminate, 3), (press_ctrl_c, 130)])
def test_a_question_outlives_the_run_that_asked(tmp_path, monkeypatch, capsys, disturb, exit_code):
    recipe, home = make_classification(tmp_path / "project", num_epochs=1), tmp_path / "home"
    recipe.write_text(recipe.read_text().replace("gate: {", "gate: {approval: manual, "))
    process = start(recipe, home)
    monkeypatch.setenv("TUNESMITH_HOME", str(home))
    tracking = Recipe.load(recipe).tracking
    deadline = time.monotonic() + 150
    while not is_asked(tracking):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(3)  # it is paused
    disturb(process, home)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code, stderr
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 15
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(home) == []

    assert is_asked(tracking)
    assert find_history("reviews", tracking) == []
    assert main(["approve", "models:/reviews/1", "--because", "looks good"]) == 0
    summary = finish(start(recipe, home))
    assert summary["aliases"] == ["champion"]
    (change,) = find_history("reviews", tracking)
    assert change.why.endswith("looks good.")
