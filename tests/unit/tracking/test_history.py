"""The champion's history: written before the aliases move, finished after a crash, taken back step by step."""

from __future__ import annotations

import json
import multiprocessing
from itertools import pairwise

import pytest

from tunesmith.errors import ModelError
from tunesmith.tracking import history as module
from tunesmith.tracking.client import exclusive, mlflow_client
from tunesmith.tracking.history import change_champion, find_history, promote_by_hand, read_history, roll_back
from tunesmith.tracking.registry import list_models

NAME = "sentiment"


@pytest.fixture
def three(candidates, tracking):
    """Three versions that became the champion one after the other."""
    for name, accuracy in (("first", 0.7), ("second", 0.8), ("third", 0.9)):
        candidates.make(name, accuracy).register()
    return tracking


def aliases(tracking):
    with mlflow_client(tracking) as client:
        return {name: int(version) for name, version in client.get_registered_model(NAME).aliases.items()}


def test_a_promotion_is_in_the_history_with_its_decision_and_its_reason(three):
    history = find_history(NAME, three)
    assert [(change.number, change.version, change.before, change.is_done) for change in history] == [
        (1, 1, None, True), (2, 2, 1, True), (3, 3, 2, True),
    ]  # fmt: skip
    decisions = {version.version: version.promoted_by for version in list_models(three)}
    assert [change.decision for change in history] == [decisions[1], decisions[2], decisions[3]]
    assert "better by 0.1000" in history[-1].why
    assert aliases(three) == {"champion": 3, "previous": 2}


def test_a_rollback_goes_back_one_champion_and_the_next_one_another(three):
    assert roll_back(NAME, "it was slow", three).version == 2
    assert aliases(three) == {"champion": 2, "previous": 1}
    roll_back(NAME, "and this one too", three)
    assert aliases(three) == {"champion": 1}
    with pytest.raises(ModelError, match=r"no earlier champion to go back to.*there are 3, 2, 1"):
        roll_back(NAME, "", three)
    assert [(change.action, change.version, change.why) for change in find_history(NAME, three)[3:]] == [
        ("rollback", 2, "it was slow"), ("rollback", 1, "and this one too"),
    ]  # fmt: skip


def test_a_version_that_was_taken_back_can_be_promoted_again_by_hand(three):
    roll_back(NAME, "", three)
    assert promote_by_hand(NAME, 3, "it was not slow after all", three).before == 2
    assert aliases(three) == {"champion": 3, "previous": 2}
    with pytest.raises(ModelError, match="version 3 is the champion already"):
        promote_by_hand(NAME, 3, "", three)
    with pytest.raises(ModelError, match=r"there is no version 7\. Versions: 3, 2, 1"):
        promote_by_hand(NAME, 7, "", three)
    with pytest.raises(ModelError, match=r"no model is registered as 'sentimental'\. Registered: sentiment"):
        promote_by_hand("sentimental", 1, "", three)


def test_the_newest_version_that_is_not_promoted_is_the_candidate(candidates, tracking):
    candidates.make("first", 0.8).register()
    worse = candidates.make("worse", 0.7).register()
    assert aliases(tracking) == {"champion": 1, "candidate": 2}
    assert worse.facts["aliases"] == ["candidate"]
    promote_by_hand(NAME, 2, "I know better", tracking)
    assert aliases(tracking) == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("step", ["set_registered_model_tag", "set_registered_model_alias"])
@pytest.mark.parametrize("call", [0, 1])
def test_a_change_that_was_cut_short_is_finished_by_the_next_look(three, monkeypatch, step, call):
    from mlflow.tracking import MlflowClient

    original, calls = getattr(MlflowClient, step), []

    def die(*arguments):
        original(*arguments)
        calls.append(arguments)
        if len(calls) == call + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, die)
        with pytest.raises(KeyboardInterrupt):
            promote_by_hand(NAME, 1, "back to the first", three)
    assert roll_back(NAME, "", three).number == 5  # of what is finished first
    assert aliases(three) == {"champion": 3, "previous": 2}
    assert all(change.is_done for change in find_history(NAME, three))
    assert [change.version for change in find_history(NAME, three)] == [1, 2, 3, 1, 3]


def test_an_alias_that_somebody_moved_meanwhile_is_not_moved_back(three, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_carry_out", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promote_by_hand(NAME, 1, "", three)
    with mlflow_client(three) as client:
        client.set_registered_model_alias(NAME, "champion", "2")
        with exclusive(three):
            change_champion(client, NAME, 3, None, "by hand")
    assert "became the champion elsewhere" in caplog.text
    assert [(change.version, change.before) for change in find_history(NAME, three)][3:] == [(1, 3), (3, 2)]


def delete(tracking, *versions):
    with mlflow_client(tracking) as client:
        for version in versions:
            client.delete_model_version(NAME, str(version))


def test_a_rollback_skips_earlier_champions_that_were_deleted(three):
    delete(three, 1)
    assert roll_back(NAME, "", three).previous is None
    assert aliases(three) == {"champion": 2}
    with pytest.raises(ModelError, match=r"no earlier champion to go back to.*there are 3, 2"):
        roll_back(NAME, "", three)
    promote_by_hand(NAME, 3, "", three)
    assert all(change.is_done for change in find_history(NAME, three))


def test_a_rollback_past_a_deleted_champion_goes_to_the_one_before_that(three):
    delete(three, 2)
    assert roll_back(NAME, "", three).version == 1
    assert aliases(three) == {"champion": 1}


def leave_unfinished(tracking, monkeypatch, **change):
    """What the history is left with where a change could not be carried out."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "_carry_out", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promote_by_hand(NAME, 1, "", tracking)
    with mlflow_client(tracking) as client:
        last = read_history(client, NAME)[-1].model_copy(update=change)
        module._set_tag(client, NAME, last)


@pytest.mark.parametrize("gone", [2, 3])
def test_a_model_that_was_jammed_by_a_deleted_version_comes_free(three, monkeypatch, gone):
    leave_unfinished(three, monkeypatch, previous=gone)
    delete(three, gone)
    change = roll_back(NAME, "", three)
    assert (change.version, change.before) == (5 - gone, 1)
    assert aliases(three) == {"champion": 5 - gone, "previous": 1}


def test_a_change_to_a_version_that_was_deleted_is_given_up(three, monkeypatch, caplog):
    leave_unfinished(three, monkeypatch)
    delete(three, 1)
    assert promote_by_hand(NAME, 2, "", three).before == 3
    assert "version 1 was deleted, and does not become the champion" in caplog.text
    assert aliases(three) == {"champion": 2, "previous": 3}


def promote_in_turn(uri, versions):
    from tunesmith.tracking.config import TrackingConfig

    tracking = TrackingConfig(uri=uri, experiment="sentiment")
    for version in versions:
        with mlflow_client(tracking) as client, exclusive(tracking):
            change_champion(client, NAME, version, None, f"version {version}")


def test_eight_processes_that_promote_at_once_leave_a_history_without_gaps(three):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=promote_in_turn, args=(three.uri, [1, 2, 3])) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with mlflow_client(three) as client:
        history = read_history(client, NAME)
    assert [change.number for change in history] == list(range(1, 28))
    for before, after in pairwise(history):
        assert after.before == before.version
    assert aliases(three)["champion"] == history[-1].version


def test_a_reason_that_mlflow_has_no_room_for_is_cut(three):
    promote_by_hand(NAME, 1, '"' * 9000, three)
    with mlflow_client(three) as client:
        tag = client.get_registered_model(NAME).tags["tunesmith.history.000004"]
    assert 1000 < len(tag) <= 5000  # PostgreSQL refuses more, SQLite takes it
    assert find_history(NAME, three)[-1].why.endswith('"" ... (cut)')


def test_a_history_is_plain_json(three):
    with mlflow_client(three) as client:
        tag = client.get_registered_model(NAME).tags["tunesmith.history.000001"]
    assert json.loads(tag)["action"] == "promote"
