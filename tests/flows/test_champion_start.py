"""`model.start: champion` through the whole flow: rows are appended, and training goes on from the champion."""

import json

import pytest
from test_finetune import STAGES, cached, planned, run

from projects import make_classification, review_rows, write_csv
from tunesmith.cli.main import main
from tunesmith.recipe import Recipe
from tunesmith.tracking.client import mlflow_client

pytestmark = pytest.mark.usefixtures("prefect_test_server", "home")

WITHOUT_DECIDE = [stage for stage in STAGES if stage != "decide"]
GO_ON = ("model.start=champion", "model.replay_fraction=0.5", "train.learning_rate=0.005", "train.warmup_fraction=0.5",
         "train.logging_steps=1")  # fmt: skip


def losses(recipe, mlflow_run_id):
    with mlflow_client(Recipe.load(recipe).tracking) as client:
        history = client.get_metric_history(mlflow_run_id, "train/loss")
        return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def test_rows_that_are_appended_train_the_champion_on_and_nothing_is_trained_twice(tmp_path, capsys):
    recipe = make_classification(tmp_path / "project", num_rows=200, num_epochs=8)
    first = run(recipe, *GO_ON)
    assert (first.verdict, first.version, first.start_version) == ("PROMOTE", "1", None)
    assert cached(run(recipe, *GO_ON)) == WITHOUT_DECIDE  # it is the champion now, and has nothing to learn

    write_csv(recipe.parent / "reviews.csv", review_rows(300))
    before = planned(recipe, *GO_ON)
    capsys.readouterr()
    assert main(["plan", str(recipe), "--json", *(f"--set={override}" for override in GO_ON)]) == 0
    start = json.loads(capsys.readouterr().out)["start"]
    assert start["version"] == 1
    assert main(["plan", str(recipe), *(f"--set={override}" for override in GO_ON)]) == 0
    assert f"start   {start['text']}\n" in capsys.readouterr().out

    second = run(recipe, *GO_ON)
    assert not cached(second)
    assert {stage.name: stage.key for stage in second.stages if before[stage.name].key} == {
        name: stage.key for name, stage in before.items() if stage.key
    }
    assert second.start_version == 1
    assert second.num_new_rows + second.num_old_rows == second.num_rows["train"]
    assert second.num_old_rows == first.num_rows["train"]
    assert 0 < second.num_replayed_rows < second.num_old_rows
    for name in ("num_new_rows", "num_old_rows", "num_replayed_rows"):
        assert start[name] == getattr(second, name)
    # The learning rate begins at 0, so the first step tells how good the weights are that training begins from.
    from_base, from_champion = losses(recipe, first.mlflow_run_id), losses(recipe, second.mlflow_run_id)
    assert from_base[0] > 0.6
    assert from_champion[0] < 0.4

    assert cached(run(recipe, *GO_ON)) == STAGES
    with mlflow_client(Recipe.load(recipe).tracking) as client:
        client.set_registered_model_alias("reviews", "champion", "2")
    assert cached(run(recipe, *GO_ON)) == STAGES[:-2]  # it is the champion now
    assert {stage: p.is_cached for stage, p in planned(recipe, *GO_ON).items()} == dict.fromkeys(STAGES, True)
