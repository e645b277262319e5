"""`tunesmith run` stopped while a person is asked: the question stays, an answer counts, and no process is left."""

import pytest
from test_crashes import finish, kill_tree, press_ctrl_c, start, terminate
from test_prefect_away import flow_run_states

from databases import lay_out_databases
from killable_training import wait_for
from processes import output_of, processes_of
from projects import make_classification
from tunesmith.cli.main import main
from tunesmith.recipe import Recipe
from tunesmith.tracking.approval import find_approval
from tunesmith.tracking.history import find_history

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


def is_paused(home, number) -> bool:
    """Whether the newest of so many runs waits."""
    states = flow_run_states(home / "prefect")
    return len(states) == number and states[-1] == "Paused"


def test_a_question_outlives_the_runs_that_asked(tmp_path, monkeypatch, capsys):
    recipe, home = make_classification(tmp_path / "project", num_epochs=1), tmp_path / "home"
    recipe.write_text(recipe.read_text().replace("gate: {", "gate: {approval: manual, "))
    lay_out_databases(home)
    monkeypatch.setenv("TUNESMITH_HOME", str(home))
    tracking, asked = Recipe.load(recipe).tracking, []
    for number, (disturb, exit_code) in enumerate([(press_ctrl_c, 130), (terminate, 3), (kill_tree, -9)], start=1):
        process = start(recipe, home)
        wait_for(lambda process=process, number=number: is_paused(home, number) or process.poll() is not None)
        disturb(process, home)
        _, stderr = output_of(process)
        assert process.returncode == exit_code, stderr
        assert "Traceback" not in stderr
        wait_for(lambda: processes_of(home) == [])
        asked.append(find_approval("reviews", 1, tracking))
    assert asked[0].is_open
    assert asked == asked[:1] * 3  # one question, with one end
    assert find_history("reviews", tracking) == []
    assert main(["approve", "models:/reviews/1", "--because", "looks good"]) == 0
    assert finish(start(recipe, home))["aliases"] == ["champion"]
    (change,) = find_history("reviews", tracking)
    assert change.why.endswith("looks good.")
