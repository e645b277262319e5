"""`tunesmith export`: one format of a model that was exported before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pytest

from judged_candidate import CLASSIFICATION, Candidate, make_candidate, make_rows
from tunesmith.cli.main import main
from tunesmith.errors import CallError, DataError, TunesmithError
from tunesmith.evaluation.served import find_served_model
from tunesmith.export.config import ExportConfig
from tunesmith.export.convert import convert
from tunesmith.export.export import export
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref


@pytest.fixture(scope="module")
def exported(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Ref]:
    case = make_candidate(tmp_path_factory.mktemp("convert"), bert, CLASSIFICATION)
    return case, export(*case.exported, ExportConfig(), case.store)


def write_rows(path: Path, columns: list[str]) -> Path:
    pa_csv.write_csv(make_rows(12).select(columns), path)
    return path


def test_the_command_writes_a_format_and_compares_it_on_the_rows_that_the_model_was_judged_on(
    exported: tuple[Candidate, Ref], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, ref = exported
    monkeypatch.chdir(tmp_path.parent)
    out = tmp_path.name  # relative to where the command is called, as its default is
    arguments = ["export", str(ref.folder), "--format", "onnx", "--out", out, "--store", str(case.store.root)]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["examples"] == "the test examples that it was judged on"
    assert (printed["report"]["num_examples"], printed["report"]["agreement"]) == (30, 1.0)
    assert find_served_model(tmp_path / "onnx")[1].candidate == "candidate"
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {path.name for path in ref.folder.joinpath("model").iterdir()} - {
        "model.safetensors",
        "MLmodel",
        "code",
        "requirements.txt",
        "python_env.yaml",
        "conda.yaml",
    } | {"model.onnx"}  # what MLflow would load are the weights
    assert json.loads((tmp_path / "parity.json").read_text())["formats"] == {"onnx": printed["report"]}
    assert {path.name for path in tmp_path.iterdir()} == {"onnx", "parity.json"}
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_another_format_in_the_same_folder_leaves_the_first_one_with_its_report_and_its_limit(
    exported: tuple[Candidate, Ref], tmp_path: Path
) -> None:
    case, ref = exported
    second = convert(ref.folder, "onnx-int8", tmp_path, case.store, max_disagreement_fraction=0.5)
    first = convert(ref.folder, "onnx", tmp_path, case.store)
    told = json.loads((tmp_path / "parity.json").read_text())
    assert told["formats"] == {found.format: found.report.model_dump(mode="json") for found in (first, second)}
    assert told["limits"]["max_disagreement_fraction"] == 0.5
    (tmp_path / "parity.json").write_text("[]")
    with pytest.raises(CallError, match=r"parity\.json: is not a report on formats"):
        convert(ref.folder, "safetensors", tmp_path, case.store)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_where_the_folder_should_be_is_a_mistake_in_the_call(
    out: str, exported: tuple[Candidate, Ref], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, ref = exported
    (tmp_path / "file").write_text("precious")
    arguments = ["export", str(ref.folder), "--format", "onnx", "--out", str(tmp_path / out)]
    assert main([*arguments, "--store", str(case.store.root)]) == 2
    assert f"{tmp_path / out}: cannot be made a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "precious"


def test_a_format_that_is_too_far_off_on_a_file_of_rows_is_not_written_and_its_numbers_are(
    exported: tuple[Candidate, Ref], tmp_path: Path
) -> None:
    _, ref = exported
    data = write_rows(tmp_path / "rows.csv", ["review", "verdict"])
    nowhere = FolderStore(tmp_path / "nowhere")
    out = tmp_path / "out"
    found = convert(ref.folder, "onnx-int8", out, nowhere, data=data, max_disagreement_fraction=0.0)
    with pytest.raises(TunesmithError, match=r"onnx-int8 is not written: .* raise --max-disagreement"):
        found.check()
    assert [path.name for path in out.iterdir()] == ["parity.json"]
    assert (found.examples, found.report.num_examples) == (str(data), 12)


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        ("gguf", {}, r"convert_hf_to_gguf\.py"),
        ("merged", {}, "this is what `safetensors` writes"),
        ("onix", {}, "there are safetensors, onnx, onnx-int8"),
        ("onnx", {"max_disagreement_fraction": 0.1}, "has no effect on onnx"),
        ("onnx-int8", {"max_disagreement_fraction": 2.0}, "from 0 to 1"),
        ("onnx", {}, "does not have the examples that this model was judged on"),
        ("onnx", {"data": Path("gone.csv")}, r"gone\.csv: there is no such file"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    format: str, options: dict[str, Any], said: str, exported: tuple[Candidate, Ref], tmp_path: Path
) -> None:
    _, ref = exported
    with pytest.raises(CallError, match=said):
        convert(ref.folder, format, tmp_path / "out", FolderStore(tmp_path / "nowhere"), **options)
    assert not (tmp_path / "out").exists()


def test_rows_without_their_labels_are_refused(exported: tuple[Candidate, Ref], tmp_path: Path) -> None:
    case, ref = exported
    data = write_rows(tmp_path / "rows.csv", ["review"])
    with pytest.raises(DataError, match="verdict"):
        convert(ref.folder, "onnx", tmp_path / "out", case.store, data=data)
