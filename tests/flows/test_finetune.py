"""The finetune flow end to end, in this process, on a Prefect server."""

import csv
import json
import shutil
import time

import pytest

from projects import make_classification, make_generation
from tunesmith.cli.main import main
from tunesmith.errors import DataError
from tunesmith.planning import plan
from tunesmith.provenance import record_recipe
from tunesmith.recipe import Recipe
from tunesmith.store.config import open_store
from tunesmith.tracking.client import mlflow_client

pytestmark = pytest.mark.usefixtures("prefect_test_server", "home")

STAGES = ["snapshot", "split", "slice", "encode", "start", "train", "evaluate", "export", "decide", "register"]
UNDER_WAY = {"Pending", "Running"}


def run(recipe, *overrides):
    from tunesmith.flows.finetune import finetune

    return finetune(str(recipe), overrides)


def cached(summary):
    return [stage.name for stage in summary.stages if stage.is_cached]


def planned(recipe, *overrides):
    loaded = Recipe.load(recipe, overrides)
    return {stage.stage: stage for stage in plan(loaded, record_recipe(loaded, recipe)).stages}


def mlflow_runs(recipe):
    tracking = Recipe.load(recipe).tracking
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        return client.search_runs([experiment.experiment_id])


def task_states(stages=()):
    """The newest flow run, and its tasks' states; the server hears of a task a little later than we do."""
    deadline = time.monotonic() + 30
    flow_run, states = read_task_states()
    while not (states.keys() >= {*stages} and UNDER_WAY.isdisjoint(states.values())) and time.monotonic() < deadline:
        time.sleep(0.2)
        flow_run, states = read_task_states()
    return flow_run, states


def read_task_states():
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        (flow_run,) = client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])))
        return flow_run, {task_run.name.rpartition("-")[0]: task_run.state_name for task_run in runs}


def test_a_second_run_holds_what_is_the_champion_and_a_third_computes_nothing(tmp_path, capsys):
    recipe = make_classification(tmp_path / "project")
    first = run(recipe)
    left, key = open_store(Recipe.load(recipe).store), next(s.key for s in first.stages if s.name == "train")
    (left.work_folder("train", key) / "checkpoints").mkdir()  # of a machine that was stopped, and another finished
    second = run(recipe)
    assert not left.has_work("train", key)
    assert cached(first) == []
    assert cached(second) == [stage for stage in STAGES if stage != "decide"]
    assert (second.verdict, second.reasons) == ("HOLD", ("The candidate is the champion already (version 1).",))
    assert cached(run(recipe)) == STAGES
    _, states = task_states(STAGES)
    assert {states[stage] for stage in STAGES} == {"Cached"}
    assert first.verdict == "PROMOTE"
    assert (first.version, first.aliases) == (second.version, second.aliases) == ("1", ("champion",))
    assert first.mlflow_run_id == second.mlflow_run_id
    (only,) = mlflow_runs(recipe)
    assert (only.info.run_id, only.info.status) == (first.mlflow_run_id, "FINISHED")
    assert {stage: p.is_cached for stage, p in planned(recipe).items()} == dict.fromkeys(STAGES, True)

    capsys.readouterr()
    assert main(["plan", str(recipe), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["num_steps"] == first.num_steps
    assert first.num_epochs == 2
    assert document["num_rows"] == first.num_rows


def test_what_changed_runs_again_and_plan_says_so_before(tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    run(recipe)
    more = planned(recipe, "train.num_epochs=2")
    assert [stage for stage, p in more.items() if p.is_cached] == ["snapshot", "split", "slice", "encode", "start"]
    assert more["train"].reason == "train.num_epochs: 1 -> 2"
    assert more["evaluate"].reason == "candidate changed"
    summary = run(recipe, "train.num_epochs=2")
    assert cached(summary) == ["snapshot", "split", "slice", "encode", "start"]
    assert {stage.name: stage.key for stage in summary.stages if more[stage.name].key} == {
        stage: p.key for stage, p in more.items() if p.key
    }
    assert summary.version == "2"


def test_one_changed_cell_runs_every_stage_again(tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    run(recipe)
    data = recipe.parent / "reviews.csv"
    data.write_text(data.read_text().replace("positive", "negative", 1))
    stages = planned(recipe)
    assert not any(p.is_cached for p in stages.values())
    assert stages["snapshot"].reason == "reviews.csv changed"


def test_the_same_rows_from_another_file_format_compute_nothing_but_the_snapshot(tmp_path):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    run(recipe)
    with (recipe.parent / "reviews.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (recipe.parent / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = run(recipe, "data.sources=[{files: [reviews.jsonl]}]")
    assert cached(summary) == [stage for stage in STAGES if stage not in ("snapshot", "decide")]


def test_a_deleted_and_a_damaged_artifact_are_rebuilt_and_nothing_else(tmp_path, home):
    recipe = make_classification(tmp_path / "project", num_epochs=1)
    run(recipe)
    first = run(recipe)  # of which all is settled
    keys = {stage.name: stage.key for stage in first.stages}
    artifacts = home / "store" / "artifacts"
    shutil.rmtree(artifacts / "encode" / keys["encode"])
    weights = next((artifacts / "export" / keys["export"]).rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    again = run(recipe)
    assert {stage.name: stage.reason for stage in again.stages if not stage.is_cached} == {
        "encode": "its artifact is missing",
        "export": f"damaged: model/{weights.name} does not match its sha256",
    }
    assert {stage.name: stage.key for stage in again.stages} == keys
    assert [path.name.split("-")[0] for path in (home / "store" / "damaged").iterdir()] == ["export"]


def test_text_generation_with_lora_lowers_perplexity_and_its_champion_generates(tmp_path, capsys):
    summary = run(make_generation(tmp_path / "project", lora=True))
    assert summary.primary_metric == "perplexity"
    assert summary.metrics["perplexity"] < summary.baseline_metrics["perplexity"]
    assert summary.verdict == "PROMOTE"

    (tmp_path / "in.jsonl").write_text('{"text": "the film"}\n{"text": "the plot was"}\n')
    assert main(["predict", "models:/stories@champion", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["the film", "the plot was"]
    assert all(isinstance(row["prediction"], str) for row in rows)

    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)
    assert (version["model_name"], version["version"], version["aliases"]) == ("stories", 1, ["champion"])


def test_a_mistake_in_the_data_fails_the_flow_with_one_clear_message(tmp_path):
    recipe = make_classification(tmp_path / "project")
    with pytest.raises(DataError, match="sentiment"):
        run(recipe, "examples.label=sentiment")
    flow_run, _ = task_states()
    assert flow_run.state_name == "Failed"


def test_the_summary_is_an_artifact_with_a_table_and_a_picture(tmp_path):
    from prefect.client.orchestration import get_client

    run(make_classification(tmp_path / "project", num_epochs=1))
    with get_client(sync_client=True) as client:
        artifact = max(client.read_artifacts(), key=lambda a: a.created)
    assert "| accuracy" in artifact.data.replace("**", "")
    assert "![loss curve](data:image/" in artifact.data
