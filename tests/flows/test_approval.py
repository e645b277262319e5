"""A promotion that a person has to approve of: asked once, answered from anywhere, carried out once."""

import json
import threading
import time

import pytest

from projects import make_classification
from tunesmith.cli.main import main
from tunesmith.errors import ModelError, RecipeError, TunesmithError
from tunesmith.recipe import Recipe
from tunesmith.tracking.approval import answer, ask, find_approval
from tunesmith.tracking.history import find_history, promote_by_hand

pytestmark = pytest.mark.usefixtures("prefect_test_server", "home")

MANUAL = "gate.approval=manual"
SOON = "gate.approval_timeout_hours=0.001"
VERSION = "models:/reviews/1"


@pytest.fixture
def recipe(tmp_path):
    return make_classification(tmp_path / "project", num_epochs=1)


def run(recipe, *overrides):
    from tunesmith.flows.finetune import finetune

    return finetune(str(recipe), (MANUAL, *overrides))


def tracking_of(recipe):
    return Recipe.load(recipe).tracking


def wait_for_question(tracking, version):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if tracking.database().exists():
            try:
                found = find_approval("reviews", version, tracking)
            except TunesmithError:
                found = None  # there is no such version yet
            if found is not None and found.is_open:
                return found
        time.sleep(0.5)
    raise AssertionError("nobody asked within four minutes")


def while_it_waits(recipe, act, *overrides, version=1):
    """Run the flow, and do something once it asks."""
    failures = []

    def watch():
        try:
            wait_for_question(tracking_of(recipe), version)
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    summary = run(recipe, *overrides)
    thread.join()
    assert failures == []
    return summary


def test_what_is_approved_on_the_command_line_becomes_the_champion_and_is_not_asked_about_again(recipe, capsys):
    def approve():
        assert main(["approve", VERSION, "--because", "looks good"]) == 0

    summary = while_it_waits(recipe, approve)
    assert (summary.verdict, summary.aliases) == ("PROMOTE", ("champion",))
    assert "It was approved by" in summary.approval
    (change,) = find_history("reviews", tracking_of(recipe))
    assert change.why.endswith(": looks good.")
    again = run(recipe)
    assert (again.verdict, again.aliases) == ("HOLD", ("champion",))
    assert len(find_history("reviews", tracking_of(recipe))) == 1
    capsys.readouterr()
    assert main(["decline", VERSION, "--json"]) == 2
    assert "it was approved by" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_promotion_by_hand_is_the_answer(recipe):
    def promote():
        assert main(["promote", VERSION, "--because", "urgent"]) == 0

    summary = while_it_waits(recipe, promote, "gate.approval_timeout_hours=0.02")
    assert (summary.verdict, summary.aliases) == ("PROMOTE", ("champion",))
    assert "It was approved by" in summary.approval
    assert summary.approval.endswith(": urgent.")
    (change,) = find_history("reviews", tracking_of(recipe))
    assert (change.why, change.decision) == ("urgent", None)
    assert run(recipe).verdict == "HOLD"
    assert len(find_history("reviews", tracking_of(recipe))) == 1


def test_what_is_declined_in_prefect_stays_a_candidate_and_is_not_asked_about_again(recipe):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
    from prefect.flow_runs import resume_flow_run

    def decline():
        paused = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Paused"])))
        deadline = time.monotonic() + 60
        with get_client(sync_client=True) as client:
            while not (found := client.read_flow_runs(flow_run_filter=paused)):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        (flow_run,) = found
        said = {"approve": False, "by": "ada", "because": "not on a Friday"}
        while True:
            try:
                return resume_flow_run(flow_run.id, run_input=said)
            except RuntimeError:  # the form follows the state
                assert time.monotonic() < deadline
                time.sleep(0.2)

    summary = while_it_waits(recipe, decline)
    assert (summary.verdict, summary.aliases) == ("PROMOTE", ("candidate",))
    assert summary.approval == "It was declined by ada: not on a Friday."
    again = run(recipe)
    assert again.approval == summary.approval
    assert all(stage.is_cached for stage in again.stages)
    assert find_history("reviews", tracking_of(recipe)) == []


def test_a_question_that_nobody_answers_ends_and_is_asked_again_and_an_answer_meanwhile_counts(recipe, capsys):
    summary = run(recipe, SOON)
    assert (summary.verdict, summary.aliases) == ("PROMOTE", ("candidate",))
    assert "Nobody has approved of it" in summary.approval
    asked = find_approval("reviews", 1, tracking_of(recipe))
    assert main(["approve", VERSION]) == 2
    assert "nobody answered. `tunesmith promote` makes any" in capsys.readouterr().err
    # as a run that is killed leaves it: asked, and answered by somebody while nobody waits
    tracking = tracking_of(recipe)
    again = ask("reviews", 1, asked.decision, 3600, tracking)
    assert again.asked_unix > asked.asked_unix
    assert ask("reviews", 1, asked.decision, 7200, tracking) == again
    answer("reviews", 1, "ada", "", tracking, is_approved=True)
    with pytest.raises(ModelError, match=r"reviews/1: it was approved by ada \("):
        answer("reviews", 1, "bob", "", tracking, is_approved=False)
    assert run(recipe, SOON).aliases == ("champion",)
    assert [change.why.rpartition(" It ")[2] for change in find_history("reviews", tracking)] == [
        "was approved by ada."
    ]


def test_another_champion_meanwhile_has_the_candidate_judged_again(recipe):
    assert run(recipe, SOON).aliases == ("candidate",)

    def promote_the_other_and_approve():
        promote_by_hand("reviews", 1, "meanwhile", tracking_of(recipe))
        answer("reviews", 2, "ada", "", tracking_of(recipe), is_approved=True)

    overrides = ("train.num_epochs=2", "gate.approval_timeout_hours=0.02")
    summary = while_it_waits(recipe, promote_the_other_and_approve, *overrides, version=2)
    assert "of the champion (version 1)" in summary.reasons[0]  # judged against the one that came meanwhile
    assert find_history("reviews", tracking_of(recipe))[0].version == 1


def test_a_timeout_without_a_question_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"approval_timeout_hours: has no effect without approval: manual"):
        Recipe.load(recipe, ("gate.approval_timeout_hours=3",))


def test_an_old_question_is_closed_by_another_decision(recipe, capsys):
    run(recipe, SOON)
    tracking = tracking_of(recipe)
    ask("reviews", 1, "an older decision", 3600, tracking)
    assert main(["approve", VERSION]) == 2
    assert "judged again since it was asked about, with PROMOTE" in capsys.readouterr().err
    assert find_approval("reviews", 1, tracking).answer is None


def test_plan_says_that_a_person_will_be_asked(recipe, capsys):
    assert main(["plan", str(recipe), f"--set={MANUAL}", "--set=gate.approval_timeout_hours=2.5"]) == 0
    assert "a promotion waits 2.5 hours for a person's approval" in capsys.readouterr().out
    assert main(["plan", str(recipe)]) == 0
    assert "approval" not in capsys.readouterr().out
