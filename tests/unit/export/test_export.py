"""The export stage, and the proof of parity."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from judged_candidate import CLASSIFICATION, GENERATION, LORA, Candidate, make_candidate, make_rows
from tunesmith.errors import TunesmithError
from tunesmith.evaluation.evaluate import EvaluateConfig, evaluate
from tunesmith.evaluation.served import find_served_model
from tunesmith.export import export as export_module
from tunesmith.export.clean_process import PLAIN_READER
from tunesmith.export.config import ExportConfig
from tunesmith.export.export import derive_export, export
from tunesmith.features.encode import TokenizeConfig
from tunesmith.features.files import read_split
from tunesmith.inference.config import PredictConfig
from tunesmith.inference.predict import predict_files
from tunesmith.modeling.load import load_on_original, load_trained
from tunesmith.store.ref import Ref


def run_export(case: Candidate, config: ExportConfig | None = None) -> Ref:
    return export(*case.exported, config or ExportConfig(), case.store)


def logit_difference(exported: Ref, name: str = "safetensors") -> float:
    return float(exported.facts["formats"][name]["max_logit_difference"])


def find_published(case: Candidate) -> list[Path]:
    return [*case.store.root.glob("artifacts/export/*")]


@pytest.mark.parametrize(("name", "lora"), [("bert", None), ("bert", LORA), ("llama", None), ("llama", LORA)])
def test_plain_transformers_gives_the_logits_of_the_candidate(
    name: str, lora: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    examples = CLASSIFICATION if name == "bert" else GENERATION
    case = make_candidate(tmp_path, request.getfixturevalue(name), examples, lora=lora)
    exported = run_export(case)
    names = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    assert {"model/model.safetensors", "model/config.json", "model/tokenizer.json", "parity.json"} <= names
    assert ("adapter/adapter_model.safetensors" in names) == (lora is not None)
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert all(0 <= logit_difference(exported, name) <= 1e-5 for name in exported.facts["formats"])
    assert "merging" not in exported.facts
    assert [*exported.facts["formats"]] == (["safetensors"] if lora is None else ["safetensors", "adapter"])
    assert {report["agreement"] for report in exported.facts["formats"].values()} == {1.0}
    served = json.loads((exported.folder / "model/tunesmith.json").read_text())
    assert (served["examples"], served["candidate"]) == (examples.model_dump(), "candidate")


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_adapter_on_a_quantized_base_is_merged_into_what_it_was_trained_on(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    examples = CLASSIFICATION if name == "bert" else GENERATION
    base = request.getfixturevalue(name)
    case = make_candidate(tmp_path, base, examples, lora=LORA, quantization="nf4")
    exported = run_export(case)
    assert logit_difference(exported) <= 1e-4 < logit_difference(exported, "adapter")
    assert exported.facts["formats"]["adapter"]["is_shipped"]
    assert (exported.folder / "adapter" / "quantization_config.json").is_file()

    labels = tuple(case.features.facts["labels"])
    models = [load(case.candidate.folder, base, examples, labels) for load in (load_trained, load_on_original)]
    losses = [compute_test_loss(case, model) for model in models]
    assert abs(losses[0] - losses[1]) > 4e-6  # more than is meant by approx
    merging = exported.facts["merging"]
    assert (merging["loss"], merging["original_base_loss"]) == (pytest.approx(losses[0]), pytest.approx(losses[1]))
    assert merging["num_examples"] == read_split(case.features.folder, "test").num_rows
    assert json.loads((exported.folder / "merge.json").read_text()) == merging


def compute_test_loss(case: Candidate, model: Any) -> float:
    """Example by example, without padding; each target counts alike."""
    total, num_targets = 0.0, 0
    for row in read_split(case.features.folder, "test").to_pylist():
        ids, labels = torch.tensor([row["input_ids"]]), row.get("labels", row["input_ids"])
        targets = 1 if isinstance(labels, int) else len(labels) - 1
        with torch.inference_mode():
            total += float(model(input_ids=ids, labels=torch.tensor([labels])).loss) * targets
        num_targets += targets
    return total / num_targets


def test_an_exported_model_predicts_long_rows_by_their_windows_as_evaluation_did(bert: Path, tmp_path: Path) -> None:
    tokenize = TokenizeConfig(max_length=5, on_overflow="window", stride=1)
    case = make_candidate(tmp_path, bert, CLASSIFICATION, tokenize=tokenize)
    exported = run_export(case)
    served = json.loads((exported.folder / "model/tunesmith.json").read_text())
    assert (served["max_length"], served["on_overflow"], served["stride"]) == (5, "window", 1)
    report = evaluate(*case.judged, EvaluateConfig(), case.store)
    judged = pq.read_table(report.folder / "predictions.parquet")
    pq.write_table(make_rows(30), tmp_path / "rows.parquet")
    source, target = str(tmp_path / "rows.parquet"), str(tmp_path / "out.parquet")
    predict_files(exported.folder, [source], target, tmp_path / "work", PredictConfig(batch_size=3))
    predicted = pq.read_table(tmp_path / "out.parquet")
    assert predicted["prediction"].to_pylist() == judged["prediction"].to_pylist()
    assert predicted["probability"].to_pylist() == pytest.approx(judged["probability"].to_pylist(), abs=1e-5)


def test_the_configuration_names_the_labels(bert: Path, tmp_path: Path) -> None:
    folder = run_export(make_candidate(tmp_path, bert, CLASSIFICATION)).folder
    config = json.loads((folder / "model/config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["label2id"] == {"bad": 0, "good": 1}


@pytest.mark.parametrize(("difference", "is_allowed"), [(2e-3, True), (5e-3, False)])
def test_large_logits_may_differ_by_more_because_rounding_grows_with_them(
    difference: float, is_allowed: bool, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    case.replace_weights(1.0)  # logits of 33

    def differ(model: Any) -> Any:
        model.classifier.bias.data += difference
        return model

    monkeypatch.setattr("tunesmith.modeling.load.merge", differ)
    if is_allowed:
        assert logit_difference(run_export(case)) == pytest.approx(difference, rel=1e-2)
        return
    with pytest.raises(TunesmithError, match=r"differ by up to 0\.005.* allows 0\.0033 beside logits of up to 33"):
        run_export(case)


def test_other_logits_are_refused_with_both_numbers_and_nothing_is_published(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)

    def damage(model: Any) -> Any:
        model.classifier.bias.data += 0.25
        return model

    monkeypatch.setattr("tunesmith.modeling.load.merge", damage)
    with pytest.raises(TunesmithError, match=r"differ by up to 0\.25.* allows 0\.0001"):
        run_export(case)
    assert find_published(case) == []


def test_a_model_that_plain_transformers_cannot_load_is_refused_with_its_words(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    save = export_module.save_model

    def save_without_configuration(*arguments: Any) -> None:
        save(*arguments)
        (arguments[-1] / "config.json").write_text("{}")

    monkeypatch.setattr(export_module, "save_model", save_without_configuration)
    with pytest.raises(TunesmithError, match=r"plain transformers cannot use the exported model \(exit 1\)[^$]*Error"):
        run_export(case)
    assert find_published(case) == []


def test_the_plain_reader_imports_nothing_of_ours() -> None:
    tree = ast.parse(PLAIN_READER.read_text())
    modules = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    libraries = {"numpy", "torch", "transformers", "peft", "onnxruntime"}
    assert modules - {"collections.abc"} <= libraries | {*sys.stdlib_module_names}


def test_the_plain_reader_ends_with_its_parent_also_while_it_times_a_model(bert: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "batch.npz")  # it waits for a batch that never comes
    request = {
        "reader": "transformers", "folder": str(bert), "auto_class": "AutoModelForSequenceClassification",
        "base": None, "config": None, "num_threads": 1, "timed": {"1": str(tmp_path / "batch.npz")},
    }  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-P", str(PLAIN_READER), str(tmp_path / "request.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        batch = open_when_read(tmp_path / "batch.npz")
        assert process.stdin is not None
        process.stdin.close()  # as the operating system does when the parent is killed
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
            os.close(batch)


def open_when_read(pipe: Path) -> int:
    """The writing end of a named pipe, as soon as somebody reads it."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.1)
    raise AssertionError("nobody reads it")


def test_the_plain_reader_cannot_import_ours_and_finds_what_the_user_has_installed(tmp_path: Path) -> None:
    (tmp_path / "installed.py").write_text("")
    code = f"import runpy; runpy.run_path({str(PLAIN_READER)!r}); import installed; import tunesmith"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environ)
    assert "import of tunesmith halted" in done.stderr


def test_what_predicting_needs_is_in_the_key_though_training_does_not_depend_on_it(llama: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, llama, GENERATION)
    longer = GENERATION.model_copy(update={"max_new_tokens": 9})
    keys = {
        derive_export(*case.exported[:3], examples, case.model, ExportConfig()).key for examples in (GENERATION, longer)
    }
    assert len(keys) == 2


def test_the_temperature_goes_with_the_model_that_was_judged_with_it(bert: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    report = evaluate(*case.judged, EvaluateConfig(calibrate=True, primary_metric="log_loss"), case.store)
    exported = export(case.candidate, case.features, report, case.examples, case.model, ExportConfig(), case.store)
    temperature = report.facts["calibration"]["temperature"]
    assert find_served_model(exported.folder)[1].temperature == temperature != 1.0
    measured = exported.facts["formats"]["safetensors"]
    assert (measured["metric"], measured["agreement"]) == ("log_loss", 1.0)
    assert measured["metric_delta"] == pytest.approx(0, abs=1e-6)
    assert run_export(case).key != exported.key
