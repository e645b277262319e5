"""Reading the registry."""

from __future__ import annotations

import re

import pytest

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.tracking import standing
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.glance import Glance, glance
from tunesmith.tracking.history import find_history, promote_by_hand, roll_back
from tunesmith.tracking.registry import find_champion, find_named, find_version, list_models
from tunesmith.tracking.standing import Standing, find_aliases, find_standing
from tunesmith.tracking.version_files import resolve_model


def test_an_empty_registry_has_no_champion_no_version_and_no_models(tracking):
    registry = RegistryConfig(model_name="sentiment")
    assert find_champion(registry, tracking) is None
    assert find_version("0" * 32, registry, tracking) is None
    assert list_models(tracking) == []


def test_models_are_listed_with_aliases_metrics_time_and_run(candidates, tracking):
    refs = [candidates.make("first", 0.8).register(), candidates.make("worse", 0.7).register()]
    worse, first = list_models(tracking)
    assert (first.version, first.aliases, first.metrics) == (1, ("champion",), {"accuracy": 0.8, "f1_macro": 0.4})
    assert (worse.version, worse.aliases, worse.decision["verdict"]) == (2, ("candidate",), "REJECT")
    assert [first.mlflow_run_id, worse.mlflow_run_id] == [ref.facts["mlflow_run_id"] for ref in refs]
    assert first.metric_text == "accuracy 0.8000"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", first.created_text)
    assert 1.7e9 < first.created_unix <= worse.created_unix
    assert list_models(tracking, "another") == []


def test_a_version_that_somebody_else_registered_is_listed_and_can_be_the_champion(tracking, tmp_path):
    with mlflow_client(tracking) as client:
        client.create_registered_model("sentiment")
        client.create_model_version("sentiment", source=(tmp_path / "theirs").as_uri())
        client.set_registered_model_alias("sentiment", "champion", "1")
    champion = find_champion(RegistryConfig(model_name="sentiment"), tracking)
    assert (champion.version, champion.candidate_key, champion.value) == (1, None, None)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sentiment", "Write models:/<name>@<alias> or models:/<name>/<version>"),
        ("models:/sentimentt@champion", "no model is registered as 'sentimentt'. Registered: sentiment."),
        ("models:/sentiment@best", "no such version. Versions: 1; aliases: champion."),
        ("models:/sentiment/7", "no such version. Versions: 1; aliases: champion."),
    ],
)
def test_a_model_that_is_not_there_is_an_error_that_says_what_is(candidates, tracking, tmp_path, uri, message):
    candidates.make("first", 0.8).register()
    with pytest.raises(ModelError) as caught:
        resolve_model(uri, tracking, tmp_path / "downloads")
    assert message in str(caught.value)


def test_a_look_at_the_database_agrees_with_mlflow(candidates, tracking, monkeypatch):
    first, second = candidates.make("first", 0.8), candidates.make("second", 0.7)
    decision = first.decide().key
    first.register()
    second.register()
    keys = (first.candidate.key, second.candidate.key, "0" * 32)

    def look():
        registry = first.registry
        standings = [find_standing(key, registry, tracking) for key in keys]
        return standings, [find_aliases(key, number, registry, tracking) for key in keys for number in (1, 2, 3)]

    quick = look()
    monkeypatch.setattr(standing, "glance", lambda *_: None)
    assert quick == look()
    champion = {"champion": 1, "champion_key": keys[0]}
    assert quick[0] == [
        Standing(**champion, version=1, promoted_by=decision),
        Standing(**champion, version=2),
        Standing(**champion),
    ]
    assert quick[1] == [("champion",), None, None, None, ("candidate",), None, None, None, None]


def test_a_version_whose_files_are_gone_does_not_stand(candidates, tracking, tmp_path, monkeypatch):
    first = candidates.make("first", 0.8)
    first.register()
    assert find_aliases(first.candidate.key, 1, first.registry, tracking) == ("champion",)
    resolve_model("models:/sentiment/1", tracking, tmp_path).rename(tmp_path / "gone")
    assert find_aliases(first.candidate.key, 1, first.registry, tracking) is None
    monkeypatch.setattr(standing, "glance", lambda *_: None)
    assert find_aliases(first.candidate.key, 1, first.registry, tracking) is None
    with pytest.raises(ModelError, match="its files are gone"):
        resolve_model("models:/sentiment/1", tracking, tmp_path)


def test_a_command_in_the_wrong_place_says_where_it_looked_and_leaves_no_database_there(tmp_path):
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/home/mlflow.db")
    assert list_models(tracking) == []
    for look in (
        lambda: find_named("models:/sentiment/3", tracking),
        lambda: find_history("sentiment", tracking),
        lambda: promote_by_hand("sentiment", 3, "", tracking),
        lambda: roll_back("sentiment", "", tracking),
    ):
        with pytest.raises(ModelError, match=rf"Registered: none.*{tracking.uri}; MLFLOW_TRACKING_URI names another"):
            look()
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_a_database_that_is_not_there_holds_no_version_and_a_damaged_one_is_an_error(tmp_path):
    database = tmp_path / "mlflow.db"
    assert glance(database, "a", ("tag",)) == Glance({}, {}, {})
    assert not database.exists()
    database.write_bytes(b"not a database" * 100)
    with pytest.raises(TunesmithError, match="damaged"):
        glance(database, "a", ("tag",))


def test_tables_of_another_mlflow_are_left_to_mlflow(tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert glance(tmp_path / "mlflow.db", "a", ("tag",)) is None
