"""The predict flow, and the command that calls the same function."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from judged_candidate import CLASSIFICATION, make_candidate
from projects import write_csv
from tiny_models import bert
from tunesmith.cli.main import main
from tunesmith.errors import CallError
from tunesmith.evaluation.served import ServedModel
from tunesmith.home import Home
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig

__all__ = ["bert"]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def model(bert, tmp_path):
    case = make_candidate(tmp_path / "case", bert, CLASSIFICATION)
    shutil.copytree(case.candidate.folder / "model", tmp_path / "model")
    labels = tuple(case.features.facts["labels"])
    ServedModel(examples=CLASSIFICATION, labels=labels, max_length=16, candidate="c").save(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def client(model, home, tmp_path):
    """Of a registry with two versions, of which the first is the champion."""
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "README.md").write_text("another one")
    with mlflow_client(TrackingConfig(uri=Home(home).tracking_uri, experiment="reviews")) as client:
        client.create_registered_model("reviews")
        for folder in (model, other):
            client.create_model_version("reviews", source=str(folder))
        client.set_registered_model_alias("reviews", "champion", "1")
        yield client


def test_the_flow_and_the_command_write_the_same_rows(prefect_test_server, model, tmp_path, capsys):
    from tunesmith.flows.predict import predict

    source, target = tmp_path / "in.csv", tmp_path / "shards"
    write_csv(source, [{"id": str(row), "review": "good film"} for row in range(25)])
    report = predict(model, [str(source)], str(target), config={"shard_rows": 10})
    assert (report.num_rows, report.num_shards) == (25, 3)
    capsys.readouterr()
    options = ["--shard-rows", "10", "--json"]
    assert main(["predict", model, str(source), str(tmp_path / "out.parquet"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 25
    assert pq.read_table(tmp_path / "out.parquet") == pq.read_table(sorted(target.glob("part-*")))
    assert main(["predict", model, str(source), str(target), *options]) == 0
    assert json.loads(capsys.readouterr().out)["num_kept_rows"] == 25


def test_a_format_that_a_model_lacks_is_told(model, tmp_path, capsys):
    assert main(["predict", model, "in.csv", str(tmp_path / "out.csv"), "--format", "onnx-int8"]) == 2
    assert "has no folder onnx-int8; add onnx-int8 to export.formats" in capsys.readouterr().err


def test_a_run_that_is_scheduled_again_goes_on_with_its_model_though_another_was_promoted(
    prefect_test_server, client, tmp_path
):
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import AwaitingRetry

    from tunesmith.flows.predict import predict

    source, target = tmp_path / "in.csv", tmp_path / "shards"
    write_csv(source, [{"id": str(row), "review": "good film"} for row in range(25)])
    asked = {"model": "models:/reviews@champion", "sources": [str(source)], "target": str(target)}
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.create_flow_run(predict, parameters={**asked, "config": {"shard_rows": 10}})
        assert run_flow(predict, flow_run=flow_run, parameters=flow_run.parameters).num_kept_rows == 0
        (target / "_shards" / "part-00002.json").unlink()
        client.set_registered_model_alias("reviews", "champion", "2")
        prefect.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
        again = run_flow(predict, flow_run=prefect.read_flow_run(flow_run.id), parameters=flow_run.parameters)
    assert again.num_kept_rows == 20
    with pytest.raises(CallError, match="holds the predictions of another model"):
        predict(**asked, config={"shard_rows": 10})
