"""Formats beside safetensors: ONNX and its 8-bit form, and what happens to one that is too far off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper
from pydantic import ValidationError

from judged_candidate import CLASSIFICATION, GENERATION, LORA, Candidate, make_candidate, make_rows
from predicted_files import predict_file
from tunesmith.errors import CallError, ModelError, TunesmithError
from tunesmith.evaluation.served import ServedModel
from tunesmith.export.clean_process import PlainModel
from tunesmith.export.config import ExportConfig
from tunesmith.export.export import export
from tunesmith.export.formats import FormatReport
from tunesmith.export.onnx_files import write_onnx
from tunesmith.export.parity import ParitySet, compute_reference
from tunesmith.export.writing import Measuring, add_onnx, save_model
from tunesmith.features.files import read_split
from tunesmith.kinds import find_kind
from tunesmith.modeling.load import build_model, load_trained, merge
from tunesmith.modeling.onnx_model import ONNX_FILE, load_onnx
from tunesmith.store.keys import file_sha256
from tunesmith.store.ref import Ref

BOTH = ExportConfig(formats=("onnx", "onnx-int8"), max_disagreement_fraction=1.0)


def run_export(case: Candidate, config: ExportConfig) -> Ref:
    return export(*case.exported, config, case.store)


def pad_to(lengths: list[int], pairs: bool, vocab_size: int = 60) -> dict[str, torch.Tensor]:
    """A batch of random tokens, padded on the right to the longest."""
    generator = torch.Generator().manual_seed(len(lengths))
    ids = torch.randint(5, vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    batch = {"input_ids": ids * mask, "attention_mask": mask.long()}
    return {**batch, "token_type_ids": torch.zeros_like(ids)} if pairs else batch


@dataclass(frozen=True)
class Written:
    """A model in both formats, beside it as safetensors in model/."""

    case: Candidate
    folder: Path
    reports: dict[str, FormatReport]
    measuring: Measuring


@pytest.fixture(scope="module", params=["bert", "llama"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Both formats of a full encoder, and of a causal model with an adapter."""
    is_bert = request.param == "bert"
    folder, base = tmp_path_factory.mktemp("formats"), request.getfixturevalue(request.param)
    examples, lora = (CLASSIFICATION, None) if is_bert else (GENERATION, LORA)
    case = make_candidate(folder / "case", base, examples, lora=lora)
    kind, labels = find_kind(examples), tuple(case.features.facts["labels"])
    test = ParitySet(read_split(case.features.folder, "test"), kind, labels, case.features.facts["pad_token_id"])
    trained = load_trained(case.candidate.folder, base, examples, labels)
    reference = compute_reference(trained, test)
    measuring = Measuring(test, reference, reference.predictions, kind.PRIMARY_METRIC, BOTH, num_threads=1)
    merged, tokenizer = merge(trained), case.features.folder / "tokenizer"
    served = ServedModel(examples=examples, labels=labels, max_length=16, candidate="candidate")
    save_model(merged, tokenizer, served, folder / "model")
    reports = dict(add_onnx(merged, tokenizer, served, BOTH.formats, measuring, folder))
    return Written(case, folder, reports, measuring)


def test_onnx_agrees_on_every_test_prediction_and_int8_is_measured(written: Written) -> None:
    exact, small = written.reports["onnx"], written.reports["onnx-int8"]
    assert exact.agreement == 1.0
    assert exact.max_logit_difference is not None
    assert exact.max_logit_difference <= 1e-4
    assert exact.metric_delta == pytest.approx(0, abs=1e-4)
    assert small.is_shipped
    assert small.max_logit_difference is not None
    assert 1e-4 < small.max_logit_difference < 1
    assert small.size_bytes < exact.size_bytes
    for report in (exact, small):
        assert report.interval is not None
        assert report.metric_delta is not None
        assert report.interval.low <= report.metric_delta <= report.interval.high
        assert [*report.latency_seconds] == ["1", "32"]
        assert min(report.latency_seconds.values()) > 0
        assert report.peak_memory_bytes > 0


def test_the_graph_takes_any_batch_and_length_and_ignores_padding(written: Written) -> None:
    case = written.case
    graph, labels = load_onnx(written.folder / "onnx"), case.features.facts["labels"]
    model = build_model(written.folder / "model", case.examples, labels, None, seed=0).eval()
    for lengths in ([1], [9], [2, 5, 3], [64, 1, 30, 7], [4] * 33):
        batch = pad_to(lengths, pairs=case.examples is CLASSIFICATION)
        with torch.inference_mode():
            expected = model(**batch).logits
        found = graph(**batch).logits
        real = batch["attention_mask"].bool() if expected.ndim == 3 else slice(None)
        torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)


def test_onnxruntime_alone_loads_both_in_a_process_that_cannot_import_tunesmith(written: Written) -> None:
    program = f"""
import sys
sys.modules["tunesmith"] = None  # importing it fails
import numpy, onnxruntime
for name in ("onnx", "onnx-int8"):
    session = onnxruntime.InferenceSession({str(written.folder)!r} + f"/{{name}}/model.onnx")
    batch = {{entry.name: numpy.ones((2, 5), numpy.int64) for entry in session.get_inputs()}}
    assert numpy.isfinite(session.run(None, batch)[0]).all()
assert not {{"torch", "transformers"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-I", "-c", program], check=True, timeout=240)


def test_tunesmith_predicts_with_an_onnx_folder_as_with_the_model(written: Written, tmp_path: Path) -> None:
    pq.write_table(make_rows(30), tmp_path / "rows.parquet")
    if written.case.examples is GENERATION:
        with pytest.raises(CallError, match=r"scores texts, and cannot continue them\. Predict with the folder"):
            predict_file(written.folder / "onnx", tmp_path / "rows.parquet", tmp_path / "out.parquet")
        return
    predicted = {}
    for name in ("model", "onnx"):
        predict_file(written.folder / name, tmp_path / "rows.parquet", tmp_path / f"{name}.parquet", batch_size=7)
        predicted[name] = pq.read_table(tmp_path / f"{name}.parquet")
    assert predicted["onnx"]["prediction"] == predicted["model"]["prediction"]
    assert predicted["onnx"]["probability"].to_pylist() == pytest.approx(predicted["model"]["probability"].to_pylist())


def test_int8_is_refused_where_no_difference_is_allowed_and_the_run_goes_on(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    ref = run_export(case, ExportConfig(formats=("onnx", "onnx-int8"), max_disagreement_fraction=0.0))
    report = ref.facts["formats"]["onnx-int8"]
    assert not report["is_shipped"]
    assert "export.max_d" in report["reason"]
    assert {path.name for path in ref.folder.iterdir() if path.is_dir()} == {"model", "onnx"} == {*ref.facts["files"]}
    assert json.loads((ref.folder / "parity.json").read_text())["formats"] == ref.facts["formats"]
    assert "onnx-int8 is not shipped" in caplog.text


def test_an_onnx_file_whose_weights_were_changed_after_its_export_is_refused(written: Written, tmp_path: Path) -> None:
    graph = onnx.load(written.folder / "onnx" / ONNX_FILE)
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim == 2:
            weight.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), weight.name))
    onnx.save(graph, tmp_path / ONNX_FILE)
    plain = PlainModel("onnx", tmp_path, written.measuring.test.kind.AUTO_CLASS)
    report = written.measuring.measure("onnx", plain)
    assert not report.is_shipped
    assert re.search(r"differ by up to [\d.]+ .* export\.max_logit_difference allows 0\.0001 ", report.reason or "")


def test_the_same_model_gives_the_same_bytes(written: Written, tmp_path: Path) -> None:
    case = written.case
    model = build_model(written.folder / "model", case.examples, case.features.facts["labels"], None, seed=0).eval()
    write_onnx(model, [*pad_to([3], pairs=case.examples is CLASSIFICATION)], tmp_path)
    assert file_sha256(tmp_path / ONNX_FILE) == file_sha256(written.folder / "onnx" / ONNX_FILE)


@pytest.mark.parametrize(("name", "examples"), [("bert", CLASSIFICATION), ("llama", GENERATION)])
def test_the_merged_model_gives_what_base_and_adapter_give(
    name: str, examples: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(name)
    case = make_candidate(tmp_path, base, examples, lora=LORA)
    labels = case.features.facts["labels"]
    apart, merged = (load_trained(case.candidate.folder, base, examples, labels) for _ in range(2))
    batch = pad_to([3, 16, 9], pairs=examples is CLASSIFICATION)
    with torch.inference_mode():
        expected, found = apart(**batch).logits, merge(merged)(**batch).logits
        without = build_model(base, examples, labels, None, seed=0).eval()(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (without - expected).abs().max() > 1e-3  # the adapter changes something


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / ONNX_FILE).write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"model\.onnx: onnxruntime cannot load it"):
        load_onnx(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"formats": ("gguf",)}, r"convert_hf_to_gguf\.py of llama\.cpp on the folder `model`"),
        ({"formats": ("safetensors",)}, "safetensors is written always"),
        ({"formats": ("onnx", "onnx")}, "names 'onnx' twice"),
        ({"formats": ("onnx",), "max_disagreement_fraction": 0.1}, "has no effect without onnx-int8"),
        ({"formats": ("onnx-int4",)}, "'onnx' or 'onnx-int8'"),
    ],
)
def test_a_format_that_cannot_be_and_a_limit_without_effect_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExportConfig(**given)


def test_a_logit_that_is_not_finite_is_refused(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)

    def break_bias(model: Any) -> Any:
        model.classifier.bias.data[0] = float("nan")
        return model

    monkeypatch.setattr("tunesmith.modeling.load.merge", break_bias)
    with pytest.raises(TunesmithError, match="some of its logits are not finite"):
        run_export(case, ExportConfig())
