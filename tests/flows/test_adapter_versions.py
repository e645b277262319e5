"""Versions that are an adapter alone, through the whole flow: registered, used, compared with and gone on from."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_finetune import STAGES, cached, run

from loaded_pyfunc import load_pyfunc
from projects import LORA, make_classification, review_rows, write_csv
from tunesmith.cli.main import main
from tunesmith.errors import ModelError
from tunesmith.recipe import Recipe
from tunesmith.tracking.client import mlflow_client

pytestmark = pytest.mark.usefixtures("prefect_test_server", "home")

ALONE = "export.merged=false"
GO_ON = "model.start=champion"


@pytest.fixture
def recipe(tmp_path):
    return make_classification(tmp_path / "project", num_rows=200, num_epochs=8, lora=True)


def predict(recipe, model, capsys):
    target = recipe.with_name("answers.csv")
    target.unlink(missing_ok=True)
    capsys.readouterr()
    assert main(["predict", model, str(recipe.with_name("reviews.csv")), str(target), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def sources(recipe):
    loaded = Recipe.load(recipe)
    with mlflow_client(loaded.tracking) as client:
        return {int(found.version): found for found in client.search_model_versions("name = 'reviews'")}


def test_an_adapter_is_registered_used_judged_against_and_gone_on_from(recipe, home, capsys, monkeypatch):
    first = run(recipe, ALONE)
    assert (first.verdict, first.version) == ("PROMOTE", "1")
    assert [*first.formats] == ["adapter"]
    version = sources(recipe)[1]
    assert version.source.endswith("/adapter")
    with mlflow_client(Recipe.load(recipe).tracking) as client:
        names = {entry.path for entry in client.list_artifacts(version.run_id)}
        card = client.download_artifacts(version.run_id, "README.md", str(recipe.parent))
    assert "adapter" in names
    assert "model" not in names
    text = Path(card).read_text()
    assert "library_name: peft" in text
    assert "an adapter alone" in text
    assert cached(run(recipe, ALONE)) == [stage for stage in STAGES if stage != "decide"]

    assert predict(recipe, "models:/reviews@champion", capsys)["num_rows"] == 200
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Recipe.load(recipe).tracking.uri)
    rows = pd.read_csv(recipe.with_name("answers.csv"))
    answers = load_pyfunc("models:/reviews@champion").predict(rows[["text"]])
    assert answers["prediction"].tolist() == rows["prediction"].tolist()

    # The champion's predictions of the new test rows are computed from its files, here out of MLflow alone.
    for artifact in ("predictions", "export"):
        shutil.rmtree(home / "store" / "artifacts" / artifact)
    write_csv(recipe.with_name("reviews.csv"), review_rows(300))
    second = run(recipe, ALONE, GO_ON)
    assert (second.start_version, second.version) == (1, "2")
    assert second.verdict in ("PROMOTE", "HOLD")
    assert sources(recipe)[2].source.endswith("/adapter")

    # What trains every weight begins from the adapter merged into its base model.
    write_csv(recipe.with_name("reviews.csv"), review_rows(360))
    third = run(write_full(recipe), GO_ON)
    assert (third.start_version, third.version) == (1 if second.verdict == "HOLD" else 2, "3")
    assert sources(recipe)[3].source.endswith("/model")


def write_full(recipe):
    """The same recipe, but all weights are trained."""
    full = recipe.with_name("full.yaml")
    full.write_text(recipe.read_text().replace(LORA, ""))
    return full


def test_a_version_keeps_its_files_and_what_is_left_merged_cannot_be_taken_apart(recipe, capsys):
    assert run(recipe).verdict == "PROMOTE"
    with pytest.raises(ModelError, match=r"export\.merged: this candidate is registered already, with its merged weig"):
        run(recipe, ALONE)
    assert sources(recipe)[1].source.endswith("/model")
    assert len(sources(recipe)) == 1

    assert run(write_full(recipe), "gate.non_inferiority_margin=0.5").verdict == "PROMOTE"
    write_csv(recipe.with_name("reviews.csv"), review_rows(300))
    capsys.readouterr()
    overrides = [f"--set={override}" for override in (ALONE, GO_ON)]
    assert main(["plan", str(recipe), *overrides]) == 2
    assert "export.merged: false does not go with a training from version 2" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"export\.merged: false does not go with a training from version 2"):
        run(recipe, ALONE, GO_ON)
