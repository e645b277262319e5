"""An exported model as MLflow's pyfunc loads it: without Tunesmith, and with the answers of `tunesmith predict`."""

from __future__ import annotations

import ast
import json
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judged_candidate import CLASSIFICATION, GENERATION, make_candidate
from loaded_pyfunc import load_pyfunc
from predicted_files import predict_file
from tiny_models import WORDS, copy_without_special_tokens, make_bart
from tunesmith.evaluation.served import find_served_model
from tunesmith.export.export import ExportConfig, export
from tunesmith.export.pyfunc import LOADER, write_pyfunc
from tunesmith.store.keys import folder_digest

TEXTS = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 21)) for row in range(45)]
OTHERS = [TEXTS[(row * 7 + 3) % len(TEXTS)] for row in range(45)]
PAIRS = CLASSIFICATION.model_copy(update={"text_pair": "other"})


def make_model(folder: Path, base: Path, examples: Any) -> Path:
    case = make_candidate(folder, base, examples)
    return export(*case.exported, ExportConfig(), case.store).folder / "model"


@pytest.fixture(scope="module")
def classifier(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("classifier"), bert, CLASSIFICATION)


@pytest.fixture(scope="module")
def generator(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("generator"), llama, GENERATION)


def change(model: Path, folder: Path, **served: Any) -> Path:
    """The same weights, served in another way."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("code"))
    changed = find_served_model(folder)[1].model_copy(update=served)
    changed.save(folder)
    write_pyfunc(folder, changed)
    return folder


def load(model: Path) -> Any:
    return load_pyfunc(str(model))


def predict_both(model: Path, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What `tunesmith predict` says of the texts, and what pyfunc does."""
    rows = pa.table({"review": TEXTS, "other": OTHERS})
    pq.write_table(rows, folder / "in.parquet")
    predict_file(model, folder / "in.parquet", folder / "out.parquet")
    return pq.read_table(folder / "out.parquet").to_pylist(), load(model).predict(rows.to_pandas()).to_dict("records")


@pytest.mark.parametrize("examples", [CLASSIFICATION, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize(
    ("max_length", "on_overflow", "stride"), [(64, "stop", 0), (12, "truncate", 0), (11, "window", 1), (11, "drop", 0)]
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_pyfunc_classifies_as_tunesmith_predict_does(
    examples: Any, max_length: int, on_overflow: Any, stride: int, side: str, classifier: Path, tmp_path: Path
) -> None:
    limit = {"max_length": max_length, "on_overflow": on_overflow, "stride": stride}
    limit["temperature"] = 1.7 if side == "left" else None
    model = change(classifier, tmp_path / "model", examples=examples, **limit)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": side}))
    expected, found = predict_both(model, tmp_path)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    assert (None in [row["prediction"] for row in found]) == (on_overflow == "drop")
    for row, wanted in zip(found, expected, strict=True):
        if wanted["prediction"] is None:
            assert {*row.values()} == {None}  # a NaN would be no JSON
        else:
            assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
            assert row["probability"] == row[f"probability_{row['prediction']}"]
            assert row["probability_bad"] + row["probability_good"] == pytest.approx(1)


def test_pyfunc_classifies_texts_without_a_token(llama: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "made", copy_without_special_tokens(llama, tmp_path / "llama"), CLASSIFICATION)
    rows = pa.table({"review": ["", ""]})
    pq.write_table(rows, tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    expected = pq.read_table(tmp_path / "out.parquet")["probability"].to_pylist()
    assert load(model).predict(rows.to_pandas())["probability"].tolist() == pytest.approx(expected, abs=1e-6)


def test_pyfunc_reads_texts_that_name_their_end_as_tunesmith_predict_does(tmp_path: Path) -> None:
    model = make_model(tmp_path / "made", make_bart(tmp_path / "bart", TEXTS), CLASSIFICATION)
    texts = ["</s>good</s> film", "bad", "good</s>" * 30, "not bad </s> at all" * 9, "</s>"]
    pq.write_table(pa.table({"review": texts}), tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    expected = pq.read_table(tmp_path / "out.parquet").to_pylist()
    found = load(model).predict(pa.table({"review": texts}).to_pandas())
    assert found["probability"].tolist() == pytest.approx([row["probability"] for row in expected], abs=1e-5)


def test_pyfunc_generates_as_tunesmith_predict_does(generator: Path, tmp_path: Path) -> None:
    expected, found = predict_both(generator, tmp_path)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    assert any(row["prediction"] for row in found)


def test_pyfunc_generates_nothing_where_a_prompt_has_no_room(generator: Path, tmp_path: Path) -> None:
    import pandas as pd

    model = change(generator, tmp_path / "model", examples=GENERATION.model_copy(update={"max_new_tokens": 1000}))
    with pytest.raises(ValueError, match=r"max_new_tokens is 1000, but the model takes \d+ tokens, prompt included"):
        load(model).predict(pd.DataFrame({"review": ["good"]}))


def test_a_text_too_long_is_refused_where_the_recipe_stops_at_it(classifier: Path, tmp_path: Path) -> None:
    import pandas as pd

    model = change(classifier, tmp_path / "model", max_length=6, on_overflow="stop")
    with pytest.raises(ValueError, match=r"row 1 has 29 tokens; the model takes 6"):
        load(model).predict(pd.DataFrame({"review": ["good", "very good film " * 9]}))


def test_nothing_is_unpickled_and_mlflow_reads_the_signature(
    classifier: Path, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    load(classifier)
    import mlflow.models

    signature = mlflow.models.get_model_info(str(classifier)).signature
    assert signature.inputs.input_names() == ["review"]
    assert signature.outputs.input_names() == ["prediction", "probability", "probability_bad", "probability_good"]
    assert load(generator).metadata.signature.outputs.input_names() == ["prediction"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs \\['review'\\]"):
        load(classifier).predict(pd.DataFrame({"text": ["good"]}))


def test_a_model_answers_in_a_process_that_cannot_import_tunesmith(classifier: Path) -> None:
    code = (
        "import sys; sys.modules['tunesmith'] = None\n"
        "import mlflow.pyfunc, pandas\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(model.predict(pandas.DataFrame({'review': ['good film']}))['prediction'][0])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(classifier)], capture_output=True, text=True)
    assert done.stdout.strip() in ("good", "bad"), done.stderr


def test_the_loader_imports_nothing_of_ours() -> None:
    nodes = [node for path in LOADER.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    modules = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module).split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    libraries = {"huggingface_hub", "numpy", "pandas", "peft", "torch", "transformers"}
    assert {"torch", "peft"} <= modules <= libraries | {*sys.stdlib_module_names}


def test_the_same_model_has_the_same_bytes_also_after_it_was_used(classifier: Path, tmp_path: Path) -> None:
    model, again = change(classifier, tmp_path / "model"), tmp_path / "again"
    shutil.copytree(model, again, ignore=shutil.ignore_patterns("code"))
    write_pyfunc(again, find_served_model(again)[1])
    py_compile.compile(str(next((model / "code").rglob("*.py"))), doraise=True)  # as importing it does
    assert list(model.rglob("*.pyc"))
    assert folder_digest(model) == folder_digest(again)
