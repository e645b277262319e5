"""The predict flow, and the command that calls the same function."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from judged_candidate import CLASSIFICATION, make_candidate
from projects import write_csv
from tiny_models import bert
from tunesmith.cli.main import main
from tunesmith.evaluation.served import ServedModel

__all__ = ["bert"]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def model(bert, tmp_path):
    case = make_candidate(tmp_path / "case", bert, CLASSIFICATION)
    shutil.copytree(case.candidate.folder / "model", tmp_path / "model")
    labels = tuple(case.features.facts["labels"])
    ServedModel(examples=CLASSIFICATION, labels=labels, max_length=16, candidate="c").save(tmp_path / "model")
    return str(tmp_path / "model")


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
